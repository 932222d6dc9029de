"""Ranks of tiktoken, from a file of base64 lines or an encoding object, as a specification."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.tokenizers.byte_level import byte_level_spec, letters_of

LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]+)\r?\n?")
MAX_RANK = 1 << 24
MAX_TOKEN = 1 << 12  # bytes of a token, which is cut at every place
# SHA-256 of published files: their pattern, and the token that begins a document.
PUBLISHED = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": ("gpt2", 50_256),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": ("cl100k", 100_257),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": ("o200k", 199_999),
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": ("llama3", 128_000),
}
# Ids after the ranks for special tokens, which the file does not name.
RESERVED = {"gpt2": 1, "cl100k": 21, "o200k": 21, "llama3": 256, "qwen": 208}
MODEL_TYPES = {
    "gpt2": "gpt2",
    "llama": "llama3",
    "mllama": "llama3",
    "qwen": "qwen",
    "gpt_oss": "o200k",
}
BOS_NAMES = ("<|begin_of_text|>", "<|bos|>", "<|startoftext|>", "<|endoftext|>", "<s>")


def is_ranks(head: bytes) -> bool:
    """Whether a file that begins so holds ranks: lines of a base64 token, a space and its rank."""
    return LINE.fullmatch(head.partition(b"\n")[0]) is not None


def read_ranks(content: bytes, path: Path) -> dict[bytes, int]:
    """The rank of each token; ValueError for a line or a set of ranks that is damaged."""
    ranks: dict[bytes, int] = {}
    lines = content.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        match = LINE.fullmatch(line)
        try:
            token = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            token = b""
        if match is None or not 1 <= len(token) <= MAX_TOKEN or len(match[2]) > 8:
            raise ValueError(
                f"a line of ranks must be a base64 token and its rank, got {line[:40]!r} in "
                f"{path}:{number}; download the file again"
            )
        ranks[token] = int(match[2])
    check_ranks(ranks, len([line for line in lines if line]), str(path))
    return ranks


def check_ranks(ranks: Mapping[bytes, int], n_lines: int, name: str) -> None:
    """Raise ValueError unless ranks and tokens are unique and every byte is a token."""
    n_missing = sum(bytes([byte]) not in ranks for byte in range(256))
    if n_missing:
        raise ValueError(
            f"ranks must hold each of the 256 bytes, got all but {n_missing} in {name}; download "
            "the file again"
        )
    if len(ranks) != n_lines or len(set(ranks.values())) != n_lines:
        raise ValueError(
            f"ranks must be unique, got {n_lines} lines of {len(ranks)} tokens and "
            f"{len(set(ranks.values()))} ranks in {name}; download the file again"
        )
    if min(ranks.values()) < 0 or max(ranks.values()) >= MAX_RANK:
        raise ValueError(
            f"ranks must be in [0, {MAX_RANK}), got {max(ranks.values())} in {name}; download the "
            "file again"
        )


def spec_of_ranks(
    ranks: Mapping[bytes, int], pattern: str, special: Mapping[str, int]
) -> dict[str, Any]:
    """The contents of a tokenizer.json that encodes as tiktoken does.

    tiktoken merges the two neighbours whose union has the lowest rank: every division of a token
    into two tokens is a merge, in the order of the token's rank. A word that is a token is not
    split.

    Parameters
    ----------
    ranks : mapping
        Rank of each token, which is its id.
    pattern : str
        The regular expression that splits a text.
    special : mapping
        Id of each special token.
    """
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        parts = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(a, b) for a, b in parts if a in ranks and b in ranks]
        known.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [(letters_of(a), letters_of(b)) for a, b in known]
    vocab = {letters_of(token): rank for token, rank in ranks.items()} | dict(special)
    return byte_level_spec(vocab, merges, special, pattern, whole_words=True)


def reserved_tokens(ranks: Mapping[bytes, int], pattern: str) -> dict[str, int]:
    """Names for the ids after the ranks that special tokens have under this pattern."""
    first = max(ranks.values()) + 1
    return {f"<|reserved {i}|>": i for i in range(first, first + RESERVED[pattern])}


def published(content: bytes) -> tuple[str | None, int | None]:
    """(pattern, BOS) of a published file of ranks; (None, None) of any other."""
    return PUBLISHED.get(hashlib.sha256(content).hexdigest(), (None, None))


def bos_of_names(special: Mapping[str, int]) -> int | None:
    """Id of the special token whose name says that it begins a document, or None."""
    return next((special[name] for name in BOS_NAMES if name in special), None)
