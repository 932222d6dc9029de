"""The gate: a linear mixture of the model and the cache, with a learned weight in each cell."""

import numpy as np

from ngrammix.cache.evidence import Evidence
from ngrammix.kernels import gate as kernel
from ngrammix.types import Floats, StateDict, Tokens

# The best of a few values on both halves of a trial (a real model's FineWeb tokens, cold and warm).
# The first hundred tokens of a cell outweigh them.
PRIOR_WEIGHT = 0.2
PRIOR_TRIALS = 2.0


class Gate:
    """Linear mixture p''(a) = (1 - w) p'(a) + w q(a), equation (4); w is learned after each token.

    The cell of a position is chosen by the matched order, the cache's confidence in its hint, the
    model's entropy, and whether the cache has recently predicted better than the model: none of
    these depends on the token itself. Where no context of at least one token was seen there is no
    cell, and the result is p'.

    In each cell w = posterior_sum / n_trials: the mean posterior probability that the cache
    generated the token, w q(x) / p''(x). This is online EM for the weight of a mixture.

    Parameters
    ----------
    order : int
        The order of the cache.
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

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"weights": self._weights, "trend": self._trend}

    def check(self) -> None:
        """Raise ValueError unless a stream can lead to the weights: they are inside of (0, 1)."""
        posterior_sum, n_trials = self._weights.T
        margin = kernel.MIN_TRIALS / 2
        is_inside = (posterior_sum > margin) & (n_trials - posterior_sum > margin)
        if not (is_inside & (n_trials <= kernel.WINDOW + 1)).all():
            raise ValueError("a weight of the gate is not in (0, 1)")
        if abs(self._trend[0]) > kernel.TREND_STEP:
            raise ValueError("the trend of the gate is too large")

    def cells(self, evidence: Evidence, entropy: Floats) -> Tokens:
        """(T,) int64: cell of each position; entropy (T,) is the model's, nats, NaN if unknown."""
        cells = np.empty(len(evidence), np.int64)
        for part in evidence._segments:
            place = part.place
            kernel.find_cells(part.entries, part.starts, part.depth, entropy[place], cells[place])
        return cells

    def mix(self, log_p: Floats, log_q: Floats, cells: Tokens) -> Floats:
        """(T,) float64, nats: log-probability of each target; w is updated after each token."""
        log_mixed = np.empty_like(log_p)
        kernel.mix(log_p, log_q, cells, self._weights, self._trend, log_mixed)
        return log_mixed

    def weight(self, cell: int) -> float:
        """W in (0, 1): the current weight of the cache in a cell."""
        is_ahead = int(self._trend[0] > kernel.TREND_THRESHOLD)
        posterior_sum, n_trials = self._weights[cell + is_ahead]
        return float(posterior_sum / n_trials)
