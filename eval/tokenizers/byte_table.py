"""ByteTable: the bytes of each token of a vocabulary."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.types import Tokens


class ByteTable:
    """The bytes of V tokens, and which leading space is not part of the text.

    Some tokenizers put a space before a text, so that its first word is tokenized like any other.
    The leading space of a token after a boundary is then not in the raw bytes.

    Parameters
    ----------
    token_bytes : sequence of V bytes
        The bytes of each token; empty for special tokens.
    boundary : (V,) bool
        Special tokens, after which a text begins.
    unknown : (V,) bool
        Tokens that replace text that is not in the vocabulary.
    space : (V,) bool
        Tokens whose leading space is not part of the text after a boundary.
    added : (V,) bool
        Tokens that were added to the vocabulary, and ids without a token. A model may lack them.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        *,
        boundary: NDArray[np.bool_],
        unknown: NDArray[np.bool_],
        space: NDArray[np.bool_],
        added: NDArray[np.bool_],
    ) -> None:
        self._bytes = np.frombuffer(b"".join(token_bytes), np.uint8)
        self._lengths = np.array([len(token) for token in token_bytes], np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self.boundary, self.unknown, self.space, self.added = boundary, unknown, space, added

    def __len__(self) -> int:
        return len(self._lengths)

    def lengths(self, tokens: Tokens) -> Tokens:
        """Number of bytes of each token (T,) in the middle of a text: (T,) int64."""
        lengths: Tokens = self._lengths[tokens]
        return lengths

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of tokens (T,) within a text, concatenated."""
        return self._gather(self._starts[tokens], self._lengths[tokens])

    def raw_bytes(self, tokens: Tokens, n_bytes: Tokens) -> bytes | None:
        """The raw text of tokens (T,) of n_bytes (T,) each; None if they have other bytes.

        A leading space that is not part of the text is left out.
        """
        n_dropped = self._lengths[tokens] - n_bytes
        is_space = (n_dropped == 1) & self.space[tokens]
        if not ((n_dropped == 0) | is_space).all():
            return None
        return self._gather(self._starts[tokens] + n_dropped, n_bytes)

    def _gather(self, starts: Tokens, lengths: Tokens) -> bytes:
        """The bytes of T slices, concatenated; starts, lengths (T,)."""
        shifts = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        return self._bytes[np.arange(len(shifts)) + shifts].tobytes()

    def count(self, tokens: Tokens, *, after_boundary: bool) -> Tokens:
        """Number of raw bytes of each token: (T,) int64.

        `after_boundary`: whether the first token stands after a boundary.
        """
        n_bytes: Tokens = self._lengths[tokens]
        is_first = np.concatenate([[after_boundary], self.boundary[tokens[:-1]]])
        n_bytes -= self.space[tokens] & is_first
        return n_bytes
