"""Byte-level BPE: the letters of bytes, how text is split, and a specification from merges."""

from collections.abc import Iterable, Mapping
from typing import Any


def byte_letters() -> dict[str, int]:
    """The byte of each letter of a byte-level vocabulary, as in GPT-2.

    A printable byte is its Latin-1 letter; the others are numbered from U+0100 in order.
    """
    prints = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in prints]
    letters = {chr(byte): byte for byte in prints}
    return letters | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_letters()
LETTER_OF = {byte: letter for letter, byte in BYTE_OF.items()}

# The words, digits, marks and spaces that BPE never merges across. Split otherwise, a text gets
# other tokens than the model was trained with, and a worse figure.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CL100K = rf"{ENDINGS}|{WORDS}|\p{{N}}{{1,3}}|{MARKS}"
O200K = "|".join(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}?",
        rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": CL100K,
    "o200k": O200K,
    "llama3": CL100K,
    "qwen": rf"{ENDINGS}|{WORDS}|\p{{N}}|{MARKS}",
}


def letters_of(token: bytes) -> str:
    """The bytes of a token as letters of a byte-level vocabulary."""
    return "".join(LETTER_OF[byte] for byte in token)


def byte_level_spec(
    vocab: Mapping[str, int],
    merges: Iterable[tuple[str, str]],
    special: Iterable[str],
    pattern: str,
    *,
    whole_words: bool,
    normalizer: str | None = None,
) -> dict[str, Any]:
    """The contents of a tokenizer.json with byte-level BPE.

    Parameters
    ----------
    vocab : mapping
        Id of each token, written in byte letters; special tokens as they are.
    merges : iterable of pairs
        In the order in which they are tried.
    special : iterable of str
        Tokens of `vocab` that are no text.
    pattern : str
        The regular expression of what is never merged across.
    whole_words : bool
        Whether a word that is a token is not split, even if the merges do not lead to it.
    normalizer : str, optional
        Its type, such as ``NFC``.
    """
    added = [
        {
            "id": vocab[token], "content": token, "special": True, "normalized": False,
            "single_word": False, "lstrip": False, "rstrip": False,
        }
        for token in sorted(special, key=vocab.__getitem__)
    ]  # fmt: skip
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
               "use_regex": False}  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None if normalizer is None else {"type": normalizer},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, letters]},
        "post_processor": None,
        "decoder": letters,
        "model": {
            "type": "BPE", "vocab": dict(vocab), "merges": [list(pair) for pair in merges],
            "ignore_merges": whole_words,
        },
    }  # fmt: skip
