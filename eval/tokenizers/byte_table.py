"""ByteTable: the bytes that each token of a vocabulary spells."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.types import Tokens


class ByteTable:
    """What V tokens spell, and which blank is none of the text.

    Some tokenizers put a blank before a text, so that its first word is like any other: the blank
    of a token that stands at a boundary is not in the raw bytes.

    Parameters
    ----------
    spelling : sequence of V bytes
        Of each token; empty for those that spell nothing.
    boundary : (V,) bool
        Tokens after which a text begins: those that mark something instead of spelling it.
    unknown : (V,) bool
        Tokens that stand for any text that the vocabulary lacks.
    blank : (V,) bool
        Tokens whose first byte is a blank that is not decoded at a boundary.
    """

    def __init__(
        self,
        spelling: Sequence[bytes],
        *,
        boundary: NDArray[np.bool_],
        unknown: NDArray[np.bool_],
        blank: NDArray[np.bool_],
    ) -> None:
        self._letters = np.frombuffer(b"".join(spelling), np.uint8)
        self._lengths = np.array([len(token) for token in spelling], np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self.boundary, self.unknown, self.blank = boundary, unknown, blank

    def __len__(self) -> int:
        return len(self._lengths)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of tokens (T,) that stand inside a text, one after the other."""
        lengths = self._lengths[tokens]
        ends = np.cumsum(lengths)
        shifts = np.repeat(self._starts[tokens] - ends + lengths, lengths)
        return self._letters[np.arange(len(shifts)) + shifts].tobytes()

    def count(self, tokens: Tokens, *, after_boundary: bool) -> Tokens:
        """(T,) int64: bytes of each token; `after_boundary` says it of the first one."""
        n_bytes: Tokens = self._lengths[tokens]
        is_first = np.concatenate([[after_boundary], self.boundary[tokens[:-1]]])
        n_bytes -= self.blank[tokens] & is_first
        return n_bytes
