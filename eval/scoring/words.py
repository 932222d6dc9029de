"""The words of a text that comes in pieces, and the figures per token and per word."""

import math
import sys
from codecs import getincrementaldecoder
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from eval.scoring.metrics import SUFFIXES
from eval.scoring.saved_state import Text
from eval.scoring.tokenized import TokenizedPiece

Decoder = getincrementaldecoder("utf-8")
# What describes a saved state of a `WordCounter`, for `check_like`.
WORDS = {
    "n_words": 0,
    "is_known": True,
    "in_word": True,
    "cut_character": Text("([0-9a-f]{2}){0,3}"),
}


class WordCounter:
    """Counts words as ``len(text.split())`` of each document: runs of anything but white space.

    The edges of pieces do not matter: they may divide a word, or the bytes of a character. Bytes
    that are not UTF-8 are part of a word.
    """

    def __init__(self) -> None:
        self._n_words = 0
        self._is_known = True
        self._in_word = False  # whether the last character so far is part of a word
        self._decoder = Decoder("replace")

    def update(self, piece: TokenizedPiece) -> None:
        """Count the words of the next piece; if its text is unknown, so is the number of words."""
        if piece.raw is None or not self._is_known:
            self._is_known = False
            return
        starts = (np.cumsum(piece.n_bytes) - piece.n_bytes)[piece.begins].tolist()
        for i, (start, stop) in enumerate(pairwise([0, *starts, len(piece.raw)])):
            if i > 0:
                self._end_document()
            self._count(self._decoder.decode(piece.raw[start:stop]))

    @property
    def n_words(self) -> int | None:
        """Number of words so far, or None if a piece had no text."""
        cut_character = self._decoder.getstate()[0]
        is_new = bool(cut_character) and not self._in_word
        return self._n_words + is_new if self._is_known else None

    def state_dict(self) -> dict[str, Any]:
        """State for `load_state_dict`, as JSON values."""
        return {
            "n_words": self._n_words,
            "is_known": self._is_known,
            "in_word": self._in_word,
            "cut_character": self._decoder.getstate()[0].hex(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self._n_words, self._is_known = state["n_words"], state["is_known"]
        self._in_word = state["in_word"]
        self._decoder.setstate((bytes.fromhex(state["cut_character"]), 0))

    def _end_document(self) -> None:
        self._count(self._decoder.decode(b"", final=True))
        self._in_word = False

    def _count(self, text: str) -> None:
        if text:
            goes_on = self._in_word and not text[0].isspace()
            self._n_words += len(text.split()) - goes_on
            self._in_word = not text[-1].isspace()


def rates(figures: Mapping[str, Any], n_words: int | None) -> dict[str, Any]:
    """Costs per token and per word, from ``tokens`` and the ``bits`` of mixture, model and cache.

    None where there is no cost or no unit, or the number of words is unknown.
    """
    flat: dict[str, Any] = {"words": n_words}
    n_tokens = figures["tokens"]
    for suffix in SUFFIXES:
        bits = figures[f"bits{suffix}"]
        nats = None if bits is None else bits * math.log(2)
        for name, total in (("nats", nats), ("bits", bits)):
            is_defined = total is not None and n_tokens
            flat[f"{name}_per_token{suffix}"] = total / n_tokens if is_defined else None
        flat[f"perplexity{suffix}"] = perplexity(nats, n_tokens)
        flat[f"word_perplexity{suffix}"] = perplexity(nats, n_words)
    return flat


def perplexity(nats: float | None, n_units: int | None) -> float | None:
    """Exponential of the nats a unit; None without cost or unit, or beyond the float64 range."""
    if nats is None or not n_units or nats / n_units > math.log(sys.float_info.max):
        return None
    return math.exp(nats / n_units)
