"""Sums over documents, or over blocks of tokens: the same to the bit however the tokens come."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STEP = 2.0**-36  # nats: 0.5 steps a token is lost at most, 7e-12 nats
MOST = 1 << 26  # nats of one batch, so that its steps fit in 63 bits

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def in_steps(nats: Floats) -> Integers:
    """Costs (N,) in whole steps of 2**-36 nats: sums of integers are exact in any order.

    Raises
    ------
    ValueError
        If a cost is not finite, or all together are too large to add up exactly.
    """
    total = float(np.abs(nats).sum())
    if not total < MOST:
        raise ValueError(
            f"costs must be finite and a batch's sum below {MOST:,} nats, got {total:g} for "
            f"{len(nats):,} tokens; look at the logits, or score fewer tokens at a time"
        )
    return np.rint(nats * (1 / STEP)).astype(np.int64)


class UnitSums:
    """Sums of C columns over units of consecutive tokens, given out as each unit ends.

    Parameters
    ----------
    scales : C float
        What one step of each column is worth: `STEP`, or 1 for counts.
    unfinished : C int, optional
        Steps of the unit that is open, in a resumed run.
    """

    def __init__(self, scales: Sequence[float], unfinished: Sequence[int] | None = None) -> None:
        self._scales = np.array(scales)[:, None]
        # Integers of Python: a document may be longer than 63 bits can add up.
        self.unfinished = None if unfinished is None else list(unfinished)

    def add(self, columns: Integers, starts: Integers) -> Floats:
        """Sums (C, U) of the units that ended, now that columns (C, N) in steps came.

        starts (U',): where among the N tokens a new unit begins, ascending.
        """
        first = starts[0] if len(starts) else columns.shape[1]
        if self.unfinished is not None:
            going_on = columns[:, :first].sum(axis=1).tolist()
            self.unfinished = [a + b for a, b in zip(self.unfinished, going_on, strict=True)]
        if not len(starts):
            return np.empty((len(columns), 0))
        sums = np.add.reduceat(columns, starts, axis=1)
        ended = np.hstack([self.rest(), sums[:, :-1] * self._scales])
        self.unfinished = sums[:, -1].tolist()
        return ended

    def rest(self) -> Floats:
        """Sums of the open unit, (C, 1), or (C, 0) if none is."""
        if self.unfinished is None:
            return np.empty((len(self._scales), 0))
        sums: Floats = np.array(self.unfinished, np.float64)[:, None] * self._scales
        return sums
