"""The stream of an audit: the first tokens of a file of ids, or of a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.config import AUTO
from eval.data.data_hash import tokens_sha256
from eval.data.document import Opening
from eval.data.open_data import has_tokens, open_data
from eval.data.token_formats import open_integers
from eval.scoring.tokenized import encode
from eval.tokenizers.base import Tokenizer
from eval.types import Tokens
from ngrammix.auditing.streams import adversarial
from ngrammix.checks import check_int, check_vocab_size

LIMIT = 4096  # tokens
MAX_LIMIT = 2**24


@dataclass(frozen=True, eq=False)
class Stream:
    """Tokens (N,) int64, or None for a stream that the audit makes, and what is known of them.

    Attributes
    ----------
    vocab_size : int
    edges : tuple of int
        Where documents begin.
    conditions : dict
        The file, the tokens in it if that is known, and a hash of those that are taken.
    is_guess : bool
        Whether the size of the vocabulary is a guess: the highest id of the file, and 1.
    """

    tokens: Tokens | None
    vocab_size: int
    edges: tuple[int, ...]
    conditions: dict[str, Any]
    is_guess: bool = False


def read_stream(
    job: Mapping[str, Any], tokenizer: Tokenizer | None, vocab_size: int | None = None
) -> Stream:
    """The stream of --tokens; `vocab_size` is that of the model or the scorer, if it is known.

    ValueError if a file cannot be read, or the size of the vocabulary is not known.
    """
    size = job.get("vocab_size", vocab_size)
    if size is None and tokenizer is not None:
        size = tokenizer.vocab_size
    if size is not None:
        size = check_vocab_size(size)
    limit = check_int(job.get("limit", LIMIT), "--limit", 1, MAX_LIMIT)
    if "tokens" not in job:
        if size is None:
            raise ValueError(
                "the size of the vocabulary must be known, got none; pass --vocab-size, or ids "
                "with --tokens"
            )
        made = None
        if "limit" in job:
            seed = check_int(job.get("seed", 0), "seed", 0, 2**63 - 1)
            made = adversarial(size, limit, np.random.default_rng(seed))
        return Stream(made, size, (), {"stream": "made for the audit"})
    path = job["tokens"]
    if not Path(path).is_file():
        raise ValueError(f"--tokens must be a file, got {path}; check the path")
    edges: list[int] = []
    conditions: dict[str, Any] = {"stream": path}
    if has_tokens([path], AUTO, job.get("token_dtype")):
        ids = open_integers(path, "tokens", job.get("token_dtype"))
        conditions["tokens_in_file"] = len(ids)
        tokens = np.asarray(ids[:limit], np.int64)
    elif tokenizer is None:
        raise ValueError(
            f"text needs a tokenizer, got none for {path}; name one with --tokenizer, or name a "
            "file of ids, .bin or .npy, or pass --token-dtype"
        )
    else:
        tokens, edges = encode_text(path, job.get("column"), tokenizer, limit)
        conditions["tokenizer"] = tokenizer.name
    is_guess = size is None
    if size is None:  # of ids: text has a tokenizer, and its size
        size = check_vocab_size(int(ids.max()) + 1)
        conditions["vocab_size_from"] = "the highest id in the file"
    conditions["tokens_sha256"] = tokens_sha256(tokens)[:16]
    return Stream(tokens, size, tuple(edges), conditions, is_guess)


def encode_text(
    path: str, column: str | None, tokenizer: Tokenizer, limit: int
) -> tuple[Tokens, list[int]]:
    """(first tokens of a text, each document after its BOS; positions where documents begin)."""
    parts: list[Tokens] = []
    edges: list[int] = []
    n_tokens = 0
    for piece in encode(open_data([path], column=column, bos=tokenizer.bos), tokenizer):
        part = piece.tokens
        if piece.is_context_start:
            edges.append(n_tokens)
            if tokenizer.bos is not None and piece.opening is Opening.BOS:
                part = np.concatenate([[tokenizer.bos], part])
        parts.append(part)
        n_tokens += len(part)
        if n_tokens >= limit:
            break
    if n_tokens == 0:
        raise ValueError(f"a stream must hold at least one token, got none in {path}; name another")
    tokens: Tokens = np.concatenate(parts)[:limit]
    return tokens, [edge for edge in edges if edge < len(tokens)]
