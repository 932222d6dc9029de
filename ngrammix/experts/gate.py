"""The gate: how much of the cache, learned per cell of what the prefix and the model say."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.evidence import Evidence
from ngrammix.kernels import gate as kernel

# Best of a few on both halves of a trial (a real model's FineWeb tokens, cold and warm); the first
# hundred tokens of a cell wash them out.
PRIOR_WEIGHT = 0.2
PRIOR_TRIALS = 2.0

Floats = NDArray[np.float64]


class Gate:
    """Linear mixture p'(a) = (1 - w) p(a) + w q(a), with w learned after each score.

    A cell is addressed by the matched order, the cache's confidence in its hint, the model's
    entropy, and whether the cache was lately ahead of the model: by nothing that knows the token
    to come. Where no context of a token or more is known there is no cell, and p comes back
    unchanged.

    Parameters
    ----------
    order : int
        The cache's.
    """

    def __init__(self, order: int) -> None:
        self._weights = np.tile(
            [PRIOR_WEIGHT * PRIOR_TRIALS, PRIOR_TRIALS], (order * kernel.CELLS_PER_CONTEXT, 1)
        )
        self._trend = np.zeros(1)

    @property
    def nbytes(self) -> int:
        """Bytes of the learned weights."""
        return self._weights.nbytes

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What was learned, by name; still in use."""
        return {"weights": self._weights, "trend": self._trend}

    def check(self) -> None:
        """Raise ValueError unless every weight is in (0, 1)."""
        won, tried = self._weights.T
        if not ((won > 0) & (won < tried)).all():
            raise ValueError("a weight of the gate is not in (0, 1)")

    def cells(self, evidence: Evidence, entropy: Floats) -> NDArray[np.int64]:
        """(T,) int64: cell of each position; entropy (T,) is the model's, nats, NaN if unknown."""
        cells = np.empty(len(evidence), np.int64)
        kernel.gate_cells(evidence.followers, evidence.hint_count, entropy, cells)
        return cells

    def mix(self, log_p: Floats, log_q: Floats, cells: NDArray[np.int64]) -> Floats:
        """(T,) float64 nats: log of the mixture for each target, learned one after the other."""
        mixed = np.empty_like(log_p)
        kernel.gate(log_p, log_q, cells, self._weights, self._trend, mixed)
        return mixed

    def weight(self, cell: int) -> float:
        """The cache's weight in this cell now, in (0, 1); there is none where there is no cell."""
        won, tried = self._weights[cell + int(self._trend[0] > kernel.AHEAD)]
        return float(won / tried)
