"""Copied or novel: whether a token lies inside an n-gram that stands earlier in the text."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Copied:
    """Tells of each token whether it is copied, as soon as that is settled.

    A token is copied if it lies inside an n-gram of its document whose tokens stand in the same
    succession earlier in the stream. That shows at the n-gram's last token, so a token may have to
    wait for the n - 1 tokens after it; figures of the tokens that wait are kept with them.

    Parameters
    ----------
    length : int >= 1
        n, tokens.
    n_columns : int
        C, figures of each token.
    """

    def __init__(self, length: int, n_columns: int) -> None:
        self._length = length
        self._columns = np.empty((n_columns, 0), np.int64)
        self._is_repeat = np.empty(0, np.bool_)

    def add(self, columns: Integers, is_repeat: Bools, begins: Bools) -> tuple[Bools, Integers]:
        """(is copied (M,), columns (C, M)) of the M tokens that are settled, in stream order.

        Parameters
        ----------
        columns : (C, N) int64
            Figures of the next N tokens.
        is_repeat : (N,) bool
            Whether the n-gram that ends here stands earlier.
        begins : (N,) bool
            Whether a document begins here; all tokens before are settled then.
        """
        n_waiting = len(self._is_repeat)
        columns = np.hstack([self._columns, columns])
        is_repeat = np.concatenate([self._is_repeat, is_repeat])
        starts = n_waiting + np.flatnonzero(begins)
        last_start = int(starts[-1]) if len(starts) else 0
        n_settled = max(last_start, len(is_repeat) - self._length + 1, 0)
        copied = is_copied(is_repeat, starts, self._length)[:n_settled]
        self._columns, self._is_repeat = columns[:, n_settled:], is_repeat[n_settled:]
        return copied, columns[:, :n_settled]

    def rest(self) -> tuple[Bools, Integers]:
        """The same of the tokens that wait, if nothing comes after them."""
        starts = np.empty(0, np.int64)
        return is_copied(self._is_repeat, starts, self._length), self._columns

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on, as JSON can hold it."""
        return {
            "length": self._length,
            "columns": self._columns.tolist(),
            "is_repeat": self._is_repeat.tolist(),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """The splitter whose `state` that was."""
        copied = cls(state["length"], len(state["columns"]))
        copied._columns = np.array(state["columns"], np.int64)
        copied._is_repeat = np.array(state["is_repeat"], np.bool_)
        return copied


def is_copied(is_repeat: Bools, starts: Integers, length: int) -> Bools:
    """Whether each token (T,) lies in an n-gram of `length` tokens that ends in a repeat.

    starts (D,): where documents begin, ascending; n-grams end with their document.
    """
    n_tokens = len(is_repeat)
    repeats_before = np.concatenate([[0], np.cumsum(is_repeat)])
    ends = np.diff(np.concatenate([[0], starts, [n_tokens]]))
    end_of_document = np.repeat(np.concatenate([starts, [n_tokens]]), ends)
    reach = np.minimum(np.arange(length, n_tokens + length), end_of_document)
    copied: Bools = repeats_before[reach] > repeats_before[:-1]
    return copied
