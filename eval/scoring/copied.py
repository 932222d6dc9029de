"""Copied or novel: whether a token lies inside an n-gram that occurred earlier in the stream."""

from typing import Any

import numpy as np

from eval.scoring.saved_state import Many
from eval.types import Bools, Integers


class CopiedTracker:
    """Decides for each token whether it is copied, as soon as the tokens after it allow.

    A token is copied if it lies inside an n-gram of its document that occurred earlier in the
    stream. A repeat is seen at the n-gram's last token, so the decision on a token needs up to
    n - 1 tokens after it. Undecided tokens are kept with their columns.

    Parameters
    ----------
    length : int >= 1
        n, in tokens.
    n_columns : int
        C, columns kept for each token.
    """

    def __init__(self, length: int, n_columns: int) -> None:
        self._length = length
        self._columns = np.empty((n_columns, 0), np.int64)
        self._is_repeat = np.empty(0, np.bool_)

    def update(self, columns: Integers, is_repeat: Bools, begins: Bools) -> tuple[Bools, Integers]:
        """(is copied (M,), columns (C, M)) of the M tokens decided now, in stream order.

        Parameters
        ----------
        columns : (C, N) int64
            Columns of the next N tokens.
        is_repeat : (N,) bool
            Whether the n-gram that ends here occurred earlier.
        begins : (N,) bool
            Whether a document begins here, which decides all tokens before.
        """
        n_undecided = len(self._is_repeat)
        columns = np.hstack([self._columns, columns])
        is_repeat = np.concatenate([self._is_repeat, is_repeat])
        starts = n_undecided + np.flatnonzero(begins)
        last_start = int(starts[-1]) if len(starts) else 0
        n_decided = max(last_start, len(is_repeat) - self._length + 1, 0)
        copied = is_copied(is_repeat, starts, self._length)[:n_decided]
        self._columns, self._is_repeat = columns[:, n_decided:], is_repeat[n_decided:]
        return copied, columns[:, :n_decided]

    def remaining(self) -> tuple[Bools, Integers]:
        """(is copied, columns) of the undecided tokens, as if the stream ended here."""
        starts = np.empty(0, np.int64)
        return is_copied(self._is_repeat, starts, self._length), self._columns

    def state_dict(self) -> dict[str, Any]:
        """State for `load_state_dict`, as JSON values."""
        return {
            "columns": self._columns.tolist(),
            "is_repeat": self._is_repeat.tolist(),
        }

    def saved_like(self) -> dict[str, Any]:
        """What describes a state of a tracker of as many columns, for `check_like`."""
        return {"columns": [Many(0)] * len(self._columns), "is_repeat": Many(False)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of a tracker of the same length and columns; ValueError if it is none."""
        lengths = {len(column) for column in (*state["columns"], state["is_repeat"])}
        if len(lengths) != 1:
            raise ValueError(f"columns must be of one length, got {sorted(lengths)}")
        self._columns = np.array(state["columns"], np.int64)
        self._is_repeat = np.array(state["is_repeat"], np.bool_)


def is_copied(is_repeat: Bools, starts: Integers, length: int) -> Bools:
    """Whether each of T tokens lies inside a repeated n-gram of `length` tokens: (T,) bool.

    is_repeat (T,): whether a repeated n-gram ends here; starts (D,): indices where documents begin.
    """
    n_tokens = len(is_repeat)
    repeats_before = np.concatenate([[0], np.cumsum(is_repeat)])
    ends = np.diff(np.concatenate([[0], starts, [n_tokens]]))
    end_of_document = np.repeat(np.concatenate([starts, [n_tokens]]), ends)
    reach = np.minimum(np.arange(length, n_tokens + length), end_of_document)
    copied: Bools = repeats_before[reach] > repeats_before[:-1]
    return copied
