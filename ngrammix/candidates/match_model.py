"""MatchModel: the longest earlier match of the last tokens, of any length."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import snapshot
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.checks import (
    NotCopyable,
    as_tokens,
    check_capacity,
    check_int,
    check_vocab_size,
)
from ngrammix.exclusive import Guard, exclusive
from ngrammix.kernels import match as kernel
from ngrammix.types import StateDict, Tokens

CHUNK_SIZE = 1 << 14  # tokens hashed at a time
SAVED = ("vocab_size", "min_length", "table_bits", "window", "position")  # in a snapshot


@dataclass(frozen=True, eq=False)
class Matches:
    """The longest earlier match before each of T tokens, from earlier tokens alone."""

    _columns: NDArray[np.uint32]  # (T, 3): the properties below, side by side

    def __len__(self) -> int:
        """Return T, the number of positions."""
        return len(self._columns)

    @property
    def length(self) -> NDArray[np.uint32]:
        """(T,) uint32: number of tokens that match; 0 for no match."""
        return self._columns[:, kernel.LENGTH]

    @property
    def hint(self) -> NDArray[np.uint32]:
        """(T,) uint32: the token that followed the earlier occurrence."""
        return self._columns[:, kernel.HINT]

    @property
    def distance(self) -> NDArray[np.uint32]:
        """(T,) uint32: how many tokens before the position the hint stands."""
        return self._columns[:, kernel.DISTANCE]


@exclusive("_guard", free=("nbytes",))
class MatchModel(NotCopyable):
    """Hints from the longest earlier match of at least `min_length` tokens.

    The model stores the tokens of the stream and, for each hash of `min_length` tokens, the
    position of its most recent occurrence. That position is compared with the stored tokens before
    it is used, and a token is stored only after its own position was answered. A match is followed
    token by token. While it is shorter than 32 tokens, the most recent occurrence of the last
    `min_length` tokens replaces it if it matches at least as far (at most 1,024 tokens are compared
    when a match begins). One call or many calls on the same tokens give the same bits. One
    thread at a time: a call in a second one is a ValueError, and changes nothing.

    Parameters
    ----------
    vocab_size : int >= 1
        V; token ids are in [0, V).
    min_length : int in 1..1024
        Tokens of the shortest match; by default one more than the contexts of a cache of order 7.
    table_bits : int in 4..30
        Log2 of the number of slots, 4 bytes each. A position is lost when another hash takes its
        slot.
    window : int, a power of two in 2,048..2**30
        Tokens that are stored, 4 bytes each; older ones are never matched.

    Attributes
    ----------
    position : int
        Number of tokens learned.
    n_ended : int
        Number of matches of 16 tokens or more that have ended.

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
        self.min_length = check_int(min_length, "min_length", 1, kernel.MAX_COMPARED)
        self.table_bits = check_int(table_bits, "table_bits", 4, 30)
        self.window = check_int(window, "window", 2 * kernel.MAX_COMPARED, 1 << 30)
        if self.window & (self.window - 1):
            raise ValueError(
                f"window must be a power of two, got {self.window}; round it to "
                f"{1 << self.window.bit_length() - 1} or {1 << self.window.bit_length()}"
            )
        self.position = 0
        self._guard = Guard()
        self._history = GrowingArray(self.window, 1)
        self._slots = GrowingArray(1 << self.table_bits, 1)
        self._match_state = np.zeros(kernel.N_STATE, np.int64)
        self._ended = np.zeros((kernel.MAX_ENDED, kernel.N_ENDED_COLUMNS), np.int64)
        self.n_ended = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens stored so far and of the slots, in whole pages."""
        return self._history.nbytes_of(min(self.position, self.window)) + self._slots.nbytes

    @property
    def history(self) -> NDArray[np.uint32]:
        """(window,) uint32: ring of the stored tokens, token t at t modulo window; read only."""
        return self._history.array.reshape(-1)

    @property
    def current(self) -> tuple[int, int]:
        """(position of the hint, length) of the match before the next position; length 0: none."""
        pointer, length, _ = self._match_state.tolist()
        return pointer, length

    def ended_at(self, i: int) -> tuple[int, int, int]:
        """The i-th match that ended, one of the last 512: see `ended`."""
        end, old_end, length = self._ended[i % len(self._ended)].tolist()
        return end, old_end, length

    def ended(self, n: int) -> Tokens:
        """(<= n, 3) int64: the last n matches of 16 tokens or more that ended, oldest first.

        Columns: position after the match, position after the earlier occurrence, length. At most
        512 are kept.
        """
        n = min(n, self.n_ended, len(self._ended))
        return self._ended[np.arange(self.n_ended - n, self.n_ended) % len(self._ended)]

    def __repr__(self) -> str:
        return (
            f"MatchModel(vocab_size={self.vocab_size}, min_length={self.min_length}, "
            f"table_bits={self.table_bits}, window={self.window}): {self.position:,} tokens"
        )

    def observe(self, tokens: ArrayLike) -> Matches:
        """Match before each position, from earlier tokens alone; then the tokens are learned.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or empty. Then nothing is learned.
        """
        return self._observe(as_tokens(tokens, self.vocab_size))

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens without matches; parameters and errors are those of `observe`."""
        self._learn(as_tokens(tokens, self.vocab_size))

    def boundary(self) -> None:
        """Begin a new document: matches do not reach back over this point."""
        pointer, length = self.current
        if length >= kernel.LONG_REPEAT:
            self._ended[self.n_ended % len(self._ended)] = self.position, pointer, length
            self.n_ended += 1
        self._match_state[:] = 0

    def peek(self) -> Matches:
        """Match before the next position."""
        pointer, length, _ = self._match_state
        matches = Matches(np.zeros((1, kernel.N_COLUMNS), np.uint32))
        if length > 0:
            hint = self._history.array[pointer % self.window, 0]
            matches._columns[0] = length, hint, self.position - pointer
        return matches

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file, which is replaced whole or not at all."""
        values: dict[str, Any] = {name: getattr(self, name) for name in SAVED}
        snapshot.write(Path(path), values, self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Model that continues where the saved one stopped, with the same bits.

        Raises
        ------
        SnapshotError
            If the file is missing, not a snapshot, of another version, truncated or altered, or if
            no stream can lead to its state.
        """
        with snapshot.opened(Path(path)) as (values, arrays):
            snapshot.check_names(values, SAVED)
            position = values.pop("position")
            model = cls(**values)
            model.load_state_dict(arrays, position=position)
            return model

    def state_dict(self) -> StateDict:
        """Arrays that the next matches depend on, by name; still in use."""
        return {
            "history": self._history.array[: min(self.position, self.window), 0],
            "slots": self._slots.array[:, 0],
            "state": self._match_state,
        }

    def load_state_dict(self, state: StateDict, *, position: int) -> None:
        """Continue at `position` from what `state_dict` of an equal model returned.

        ValueError unless such a model can have this state.
        """
        n_stored = min(check_int(position, "position", 0, 1 << 30), self.window)
        history = self._history.array[:n_stored, 0]
        snapshot.load_arrays(
            {"history": history, "slots": self._slots.array[:, 0], "state": self._match_state},
            state,
        )
        pointer, length, since_boundary = self._match_state.tolist()
        is_lost = length > 0 and not max(position - self.window, 0) < pointer < position
        if is_lost or not 0 <= length <= since_boundary <= position:
            raise ValueError("the match has an invalid position or length")
        if (history >= self.vocab_size).any() or (state["slots"] > position).any():
            raise ValueError("a token or a slot is out of range")
        self.position = position

    def _observe(self, tokens: Tokens) -> Matches:
        """`observe` for ids that are checked already."""
        matches = Matches(np.empty((len(tokens), kernel.N_COLUMNS), np.uint32))
        self._match(tokens, matches._columns)
        return matches

    def _learn(self, tokens: Tokens) -> None:
        """`learn` for ids that are checked already."""
        self._match(tokens, np.empty((0, kernel.N_COLUMNS), np.uint32))

    def _match(self, tokens: Tokens, columns: NDArray[np.uint32]) -> None:
        check_capacity(self.position, len(tokens))
        history, slots = (array.array.reshape(-1) for array in (self._history, self._slots))
        with self._guard.changing():
            for start in range(0, len(tokens), CHUNK_SIZE):
                chunk = slice(start, start + CHUNK_SIZE)
                self.n_ended = kernel.match(
                    tokens[chunk], history, slots, self.table_bits, self.min_length,
                    self._match_state, self.position, columns[chunk], self._ended, self.n_ended,
                )  # fmt: skip
                self.position += len(tokens[chunk])
