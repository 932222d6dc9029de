"""MatchModel: the longest earlier match of the last tokens, beyond what the tables hold."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import snapshot
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.checks import (
    NotCopyable,
    as_tokens,
    check_capacity,
    check_integer,
    check_vocab_size,
)
from ngrammix.kernels import match as kernel
from ngrammix.types import StateDict, Tokens

CHUNK = 1 << 14  # tokens whose buckets are held at a time


@dataclass(frozen=True, eq=False)
class Matches:
    """What followed the longest earlier match before each of T tokens; known before they came.

    Attributes
    ----------
    _columns : (T, 3) uint32
        The three columns below.
    """

    _columns: NDArray[np.uint32]

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self._columns)

    @property
    def length(self) -> NDArray[np.uint32]:
        """(T,): tokens before the position that also stand before the hint; 0 for no match."""
        return self._columns[:, kernel.LENGTH]

    @property
    def hint(self) -> NDArray[np.uint32]:
        """(T,): the token that followed there."""
        return self._columns[:, kernel.HINT]

    @property
    def distance(self) -> NDArray[np.uint32]:
        """(T,): how many tokens ago the hint stood."""
        return self._columns[:, kernel.DISTANCE]


class MatchModel(NotCopyable):
    """Hints from the longest earlier match, of any length from `min_length` tokens on.

    The tokens of the stream are stored, and for each hash of `min_length` tokens where they came
    last. What is found there is compared with the stored stream before it is believed, and a token
    is stored only after its own position was answered. A match is followed token by token; while it
    is shorter than 32 tokens, the latest place with the same last `min_length` tokens replaces it
    if it matches as far or farther (a match that begins is compared over 1,024 tokens at most).
    The same tokens in one call or in a thousand give the same bits. One thread at a time.

    Parameters
    ----------
    vocab_size : int >= 1
        V; token ids are in [0, V).
    min_length : int in 1..1024
        Tokens of the shortest match; by default one more than the contexts of a cache of order 7.
    table_bits : int in 4..30
        Log2 of the slots, 4 bytes each; a place is lost when another context takes its slot.
    window : int, a power of two in 2,048..2**30
        Tokens kept, 4 bytes each; older ones are never matched.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> matches = MatchModel(vocab_size=9, min_length=2).observe([1, 2, 3, 4, 1, 2, 3, 4])
    >>> matches.length
    array([0, 0, 0, 0, 0, 0, 2, 3], dtype=uint32)
    >>> matches.hint[6:], matches.distance[6:]
    (array([3, 4], dtype=uint32), array([4, 4], dtype=uint32))
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        min_length: int = 7,
        table_bits: int = 22,
        window: int = 1 << 26,
    ) -> None:
        self.vocab_size = check_vocab_size(vocab_size)
        self.min_length = check_integer(min_length, "min_length", 1, kernel.MOST_COMPARED)
        self.table_bits = check_integer(table_bits, "table_bits", 4, 30)
        self.window = check_integer(window, "window", 2 * kernel.MOST_COMPARED, 1 << 30)
        if window & (window - 1):
            raise ValueError(
                f"window must be a power of two, got {window}; round it to "
                f"{1 << window.bit_length() - 1} or {1 << window.bit_length()}"
            )
        self.position = 0
        self._history = GrowingArray(self.window, 1)
        self._slots = GrowingArray(1 << self.table_bits, 1)
        self._cursor = np.zeros(kernel.N_STATE, np.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens so far and of the slots, in whole pages."""
        return self._history.nbytes_of(min(self.position, self.window)) + self._slots.nbytes

    @property
    def history(self) -> NDArray[np.uint32]:
        """(window,): ring of the stored tokens, token t at t modulo window; not to be touched."""
        return self._history.array.reshape(-1)

    def __repr__(self) -> str:
        return (
            f"MatchModel(vocab_size={self.vocab_size}, min_length={self.min_length}, "
            f"table_bits={self.table_bits}, window={self.window}): {self.position:,} tokens"
        )

    def observe(self, tokens: ArrayLike) -> Matches:
        """Match before each position; then its token is learned.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or none; nothing is learned then.
        """
        return self._observe(as_tokens(tokens, self.vocab_size))

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens that need no answer; takes and raises what `observe` does."""
        self._learn(as_tokens(tokens, self.vocab_size))

    def boundary(self) -> None:
        """Begin a new document: no match reaches back over this point."""
        self._cursor[:] = 0

    def peek(self) -> Matches:
        """Match before the one position to come."""
        pointer, length, _ = self._cursor
        matches = Matches(np.zeros((1, kernel.N_FIELDS), np.uint32))
        if length > 0:
            hint = self._history.array[pointer % self.window, 0]
            matches._columns[0] = length, hint, self.position - pointer
        return matches

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file; the old one or the new one is there, whatever happens."""
        snapshot.write(Path(path), *self._state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Model that goes on where the saved one stood, to the bit.

        Raises
        ------
        SnapshotError
            If the file is missing, no snapshot, of another version, cut short or altered, or if no
            stream can have had the state that it holds.
        """
        with snapshot.opened(Path(path)) as (values, arrays):
            position = values.pop("position")
            model = cls(**values)
            model.load_state_dict(arrays, position=position)
            return model

    def _state(self) -> snapshot.Contents:
        """What `save` writes: values, and arrays that are still in use."""
        names = ("vocab_size", "min_length", "table_bits", "window", "position")
        return {name: getattr(self, name) for name in names}, self.state_dict()

    def state_dict(self) -> StateDict:
        """Everything but `position` that the matches to come depend on, by name; still in use."""
        return {
            "history": self._history.array[: min(self.position, self.window), 0],
            "slots": self._slots.array[:, 0],
            "state": self._cursor,
        }

    def load_state_dict(self, arrays: StateDict, *, position: int) -> None:
        """Go on at `position`; ValueError unless the arrays can be those of such a model."""
        check_integer(position, "position", 0, 1 << 30)
        n_stored = min(position, self.window)
        history = self._history.array[:n_stored, 0]
        snapshot.load_arrays(
            {"history": history, "slots": self._slots.array[:, 0], "state": self._cursor}, arrays
        )
        pointer, length, since = self._cursor.tolist()
        is_lost = length > 0 and not max(position - self.window, 0) < pointer < position
        if is_lost or not 0 <= length <= since <= position:
            raise ValueError("the match leads nowhere")
        if (history >= self.vocab_size).any() or (arrays["slots"] > position).any():
            raise ValueError("a token or a slot leads nowhere")
        self.position = position

    def _observe(self, tokens: Tokens) -> Matches:
        """`observe` for ids that are checked already."""
        matches = Matches(np.empty((len(tokens), kernel.N_FIELDS), np.uint32))
        self._match(tokens, matches._columns)
        return matches

    def _learn(self, tokens: Tokens) -> None:
        """`learn` for ids that are checked already."""
        self._match(tokens, np.empty((0, kernel.N_FIELDS), np.uint32))

    def _match(self, tokens: Tokens, fields: NDArray[np.uint32]) -> None:
        check_capacity(self.position, len(tokens))
        for start in range(0, len(tokens), CHUNK):
            piece = slice(start, start + CHUNK)
            kernel.match(
                tokens[piece], self.history, self._slots.array.reshape(-1),
                self.table_bits, self.min_length, self._cursor, self.position, fields[piece],
            )  # fmt: skip
            self.position += len(tokens[piece])
