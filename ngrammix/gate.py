"""The gate: how much of the cache, learned per cell of what the prefix and the model say."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.evidence import Evidence
from ngrammix.kernels import mix

NO_CELL = mix.NO_CELL
# Best of a few on both halves of a trial (a real model's FineWeb tokens, cold and warm); the first
# hundred tokens of a cell wash them out.
PRIOR_WEIGHT = 0.2
PRIOR_TRIALS = 2.0


class Gate:
    """Linear mixture p'(a) = (1 - w) p(a) + w q(a), with w learned after each score.

    A cell is addressed by the matched order, the cache's confidence in its hint and the model's
    entropy: by nothing that knows the token to come. Where no context of a token or more is known
    there is no cell, and the model's probability comes back unchanged.

    Parameters
    ----------
    order : int
        The cache's.
    """

    def __init__(self, order: int) -> None:
        n_cells = order * mix.CELLS_PER_ORDER
        self._tried = np.full(n_cells, PRIOR_TRIALS)
        self._won = np.full(n_cells, PRIOR_WEIGHT * PRIOR_TRIALS)

    @property
    def nbytes(self) -> int:
        """Bytes of the learned weights."""
        return self._won.nbytes + self._tried.nbytes

    def cells(self, evidence: Evidence, entropy: NDArray[np.float64]) -> NDArray[np.int64]:
        """(T,) int64: cell of each position; entropy (T,) is the model's, nats."""
        cells = np.empty(len(evidence), np.int64)
        mix.gate_cells(evidence.followers, evidence.hint_count, entropy, cells)
        return cells

    def mix(
        self, log_p: NDArray[np.float64], log_q: NDArray[np.float64], cells: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(T,) float64 nats: log of the mixture for each target, learned one after the other."""
        mixed = np.empty_like(log_p)
        mix.gate(log_p, log_q, cells, self._won, self._tried, mixed)
        return mixed

    def weight(self, cell: int) -> float:
        """The cache's weight in this cell now, in (0, 1); there is none in NO_CELL."""
        return float(self._won[cell] / self._tried[cell])
