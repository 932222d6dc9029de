"""Bits per byte: the one place where nats become bits and meet the raw bytes."""

import math
import unicodedata

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document

EXCERPT = 12  # bytes that an error shows
BROKEN = "\ufffd".encode()  # what decoders write for bytes that are no UTF-8


def bits(nats: float) -> float:
    """Bits from nats."""
    return nats / math.log(2)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of a text of `n_bytes` raw bytes whose tokens cost `nats` in all."""
    return bits(nats) / n_bytes


def check_token_bytes(token_bytes: NDArray[np.int64], document: Document) -> None:
    """Raise ValueError unless the bytes of the tokens (T,) sum to the document's raw bytes.

    A wrong denominator is the commonest error of published BPB: bytes counted twice, dropped, or
    normalised away by the tokenizer. Nothing is scored against a text that is not the user's. Of a
    document of tokens no raw bytes are known: there is nothing to check.
    """
    total = int(token_bytes.sum())
    if document.raw is not None and total != len(document.raw):
        raise ValueError(
            f"token bytes must sum to the raw bytes, got {total} for {len(document.raw)} in "
            f"{document.name}; the tokenizer does not encode this text losslessly"
        )


def check_raw_bytes(decoded: bytes, document: Document) -> None:
    """Raise ValueError unless tokens that spell `decoded` are the document's raw bytes.

    The error says where the two part and what is the likely cause.
    """
    raw = document.raw
    if raw is None or decoded == raw:
        return
    raise ValueError(
        f"tokens must decode to the raw bytes, got {len(decoded)} for {len(raw)} in "
        f"{location(document)}, {difference(decoded, raw)} ({likely_cause(decoded, raw)}); "
        "take a tokenizer that loses nothing, or score the raw bytes with --model none"
    )


def check_decoding(token_bytes: bytes, decoded: str, document: Document) -> None:
    """Raise ValueError unless tokens of these bytes are decoded so by the tokenizer itself.

    What is decoded may lack the blank that the tokenizer puts before a text. Where bytes are no
    UTF-8, a decoder writes U+FFFD, three bytes, for one or several of them: only the rest is
    compared.
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
    """Name of the document; positions of a later piece are counted from the piece's beginning."""
    return document.name if document.begins else f"a later piece of {document.name}"


def difference(decoded: bytes, raw: bytes) -> str:
    """Where two different texts part, with what follows in each."""
    at = first_difference(decoded, raw)
    return f"{decoded[at : at + EXCERPT]!r} for {raw[at : at + EXCERPT]!r} at byte {at}"


def first_difference(a: bytes, b: bytes) -> int:
    """Length of the longest common beginning of two texts."""
    n = min(len(a), len(b))
    unequal = np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n) if n else np.zeros(0)
    return int(unequal.argmax()) if unequal.any() else n


def likely_cause(decoded: bytes, raw: bytes) -> str:
    """What a tokenizer that spells `decoded` for `raw` has probably done to the text."""
    ours, theirs = decoded.decode("utf-8", "replace"), raw.decode("utf-8", "replace")
    if decoded.removeprefix(b" ") == raw.removeprefix(b" "):
        return "the blank before the text is counted twice, or lost"
    if decoded.count(BROKEN) > raw.count(BROKEN):
        return "U+FFFD stands for bytes that are no UTF-8"
    if ours.count("\u2581") > theirs.count("\u2581"):
        return "U+2581 stands for a blank: the tokenizer has no piece for one"
    if ours.split() == theirs.split():
        return "white space is dropped, merged or replaced"
    if ours.lower() == theirs.lower():
        return "upper case becomes lower case"
    one, other = (" ".join(unicodedata.normalize("NFKC", text).split()) for text in (ours, theirs))
    if one == other:
        return "Unicode normalisation such as NFKC"
    if one.lower() == other.lower():
        return "upper case becomes lower case, with Unicode normalisation"
    return "bytes are lost" if len(decoded) < len(raw) else "the text is rewritten"
