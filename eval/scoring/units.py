"""Exact sums over units, documents or blocks of tokens: independent of how tokens are batched."""

from collections.abc import Sequence

import numpy as np

from eval.types import Floats, Integers

STEP = 2.0**-36  # nats; rounding a cost to steps loses at most half a step, 7e-12 nats
MAX_BATCH_NATS = 1 << 26  # so that the steps of a batch fit in 63 bits


def to_steps(nats: Floats) -> Integers:
    """Costs (N,) in steps of 2**-36 nats, int64: sums of integers are exact in any order.

    Raises
    ------
    ValueError
        If a cost is not finite, or their sum is too large to be exact.
    """
    total = float(np.abs(nats).sum())
    if not total < MAX_BATCH_NATS:
        raise ValueError(
            f"costs must be finite and a batch's sum below {MAX_BATCH_NATS:,} nats, got {total:g} "
            f"for {len(nats):,} tokens; look at the logits, or score fewer tokens at a time"
        )
    return np.rint(nats * (1 / STEP)).astype(np.int64)


class UnitSums:
    """Sums of C columns over units of consecutive tokens; each unit is returned when it ends.

    Parameters
    ----------
    scales : C float
        Value of one step of each column: `STEP` for nats, 1 for counts.
    unfinished : C int, optional
        Sums, in steps, of the unit that is still open; from an earlier run.
    """

    def __init__(self, scales: Sequence[float], unfinished: Sequence[int] | None = None) -> None:
        self._scales = np.array(scales)[:, None]
        # Python integers: the sum over a long document may need more than 63 bits.
        self.unfinished = None if unfinished is None else list(unfinished)

    def update(self, columns: Integers, starts: Integers) -> Floats:
        """Sums (C, U) float64 of the units that end within the next N tokens.

        columns (C, N) int64, in steps; starts (U',): indices of the tokens that begin a unit.
        """
        first = starts[0] if len(starts) else columns.shape[1]
        if self.unfinished is not None:
            continued = columns[:, :first].sum(axis=1).tolist()
            self.unfinished = [a + b for a, b in zip(self.unfinished, continued, strict=True)]
        if not len(starts):
            return np.empty((len(columns), 0))
        sums = np.add.reduceat(columns, starts, axis=1)
        ended = np.hstack([self.remaining(), sums[:, :-1] * self._scales])
        self.unfinished = sums[:, -1].tolist()
        return ended

    def remaining(self) -> Floats:
        """Sums of the open unit, (C, 1); (C, 0) if no unit is open."""
        if self.unfinished is None:
            return np.empty((len(self._scales), 0))
        sums: Floats = np.array(self.unfinished, np.float64)[:, None] * self._scales
        return sums
