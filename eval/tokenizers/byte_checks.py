"""Bits per byte, and the checks that the bytes of the tokens are the raw bytes of the text."""

import math
import unicodedata

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document

EXCERPT = 12  # bytes shown in an error
BROKEN = "\ufffd".encode()  # written by decoders for invalid UTF-8
MARK = "\u2581"  # what SentencePiece and its relatives write for a space


def bits(nats: float) -> float:
    """Convert nats to bits."""
    return nats / math.log(2)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of a text of `n_bytes` raw bytes whose tokens cost `nats` in total."""
    return bits(nats) / n_bytes


def check_token_bytes(token_bytes: NDArray[np.int64], document: Document) -> None:
    """Raise ValueError unless the bytes of the tokens (T,) sum to the document's raw bytes.

    A wrong denominator is the most common error in published bits per byte: bytes counted twice,
    dropped, or changed by the normalizer of the tokenizer. The tokenizers of this package check
    more than that; this is for those that users write. A document of tokens has no raw bytes and
    always passes.
    """
    total = int(token_bytes.sum())
    if document.raw is not None and total != len(document.raw):
        raise ValueError(
            f"token bytes must sum to the raw bytes, got {total} for {len(document.raw)} in "
            f"{document.name}; the tokenizer does not encode this text losslessly"
        )


def check_raw_bytes(decoded: bytes, document: Document) -> None:
    """Raise ValueError unless the decoded bytes of the tokens are the raw bytes of the document.

    The error names the first difference and its likely cause.
    """
    raw = document.raw
    if raw is None or decoded == raw:
        return
    if raw.count(MARK.encode()) > decoded.count(MARK.encode()):
        raise ValueError(
            "text must not hold the character U+2581 for this tokenizer, which writes a space so, "
            f"got one at byte {raw.index(MARK.encode())} of {location(document)}; leave the "
            "document out (--on-bad-row skip), or take a byte-level tokenizer"
        )
    raise ValueError(
        f"tokens must decode to the raw bytes, got {len(decoded)} for {len(raw)} in "
        f"{location(document)}, {difference(decoded, raw)} ({likely_cause(decoded, raw)}); "
        "take a tokenizer that loses nothing, or score the raw bytes with --model none"
    )


def check_decoding(token_bytes: bytes, decoded: str, document: Document) -> None:
    """Raise ValueError unless the bytes of the table are the text that the library decodes.

    The decoded text may lack the space that the tokenizer puts before a text. A decoder replaces
    invalid UTF-8 by U+FFFD, one for one or several bytes; these parts are not compared.
    """
    text = token_bytes.decode("utf-8", "replace")
    if (broken := text.encode() != token_bytes) and "\ufffd" in decoded:
        text, decoded = text.replace("\ufffd", ""), decoded.replace("\ufffd", "")
    if decoded not in (text, text.removeprefix(" ")):
        table, library = text.encode() if broken else token_bytes, decoded.encode()
        raise ValueError(
            "token bytes must be what the tokenizer decodes, "
            f"got {len(table)} bytes for {len(library)} in {location(document)}, "
            f"{difference(table, library)} ({likely_cause(table, library)}); "
            "give the bytes of each token with --token-bytes"
        )


def location(document: Document) -> str:
    """Location for an error text; positions in a later piece count from the piece's start."""
    return document.name if document.begins else f"a later piece of {document.name}"


def difference(decoded: bytes, raw: bytes) -> str:
    """The first difference of two texts, with an excerpt of each."""
    i = first_difference(decoded, raw)
    return f"{decoded[i : i + EXCERPT]!r} for {raw[i : i + EXCERPT]!r} at byte {i}"


def first_difference(a: bytes, b: bytes) -> int:
    """Length of the longest common prefix of two texts."""
    n = min(len(a), len(b))
    unequal = np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n) if n else np.zeros(0)
    return int(unequal.argmax()) if unequal.any() else n


def likely_cause(decoded: bytes, raw: bytes) -> str:
    """The most likely reason why a tokenizer decodes `decoded` instead of `raw`."""
    text, original = decoded.decode("utf-8", "replace"), raw.decode("utf-8", "replace")
    if decoded.removeprefix(b" ") == raw.removeprefix(b" "):
        return "the space before the text is counted twice, or lost"
    if decoded.count(BROKEN) > raw.count(BROKEN):
        return "U+FFFD replaces bytes that are not UTF-8"
    if text.count(MARK) > original.count(MARK):
        return "U+2581 replaces a space: the tokenizer has no token for a space"
    if text.split() == original.split():
        return "white space is dropped, merged or replaced"
    if text.lower() == original.lower():
        return "upper case becomes lower case"
    text, original = (" ".join(unicodedata.normalize("NFKC", t).split()) for t in (text, original))
    if text == original:
        return "Unicode normalisation such as NFKC"
    if text.lower() == original.lower():
        return "upper case becomes lower case, with Unicode normalisation"
    return "bytes are lost" if len(decoded) < len(raw) else "the text is rewritten"
