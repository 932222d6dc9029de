"""The guard: whatever happens inside, the stream costs at most one bit more than the model."""

import math

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import mix


class Guard:
    """Bayes mixture of two experts, the model and everything inside, prior 1/2 each.

    The product of its probabilities is 1/2 (prod p_model + prod p_inner), so for any data and any
    normalised inner predictor: total bits <= the model's bits + 1. Kept as a log-odds, because
    weights in linear space underflow and then never recover.

    Attributes
    ----------
    bound_bits : float
        1.0: the most that the stream can cost beyond the model.
    """

    bound_bits = 1.0

    def __init__(self) -> None:
        self._state = np.zeros(2)

    @property
    def log_odds(self) -> float:
        """Nats by which the model is ahead of everything inside."""
        return float(self._state.sum())

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; below 0 where the cache helped.

        -log2(1/2 + 1/2 prod p_inner / prod p_model): the sum over the tokens telescopes to it.
        """
        return self.bound_bits - float(mix.softplus(-self.log_odds)) / math.log(2)

    @property
    def weights(self) -> tuple[float, float]:
        """Posterior of the model and of everything inside, each to its own last digit."""
        return math.exp(-mix.softplus(-self.log_odds)), math.exp(-mix.softplus(self.log_odds))

    def mix(
        self, log_p: NDArray[np.float64], log_inner: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(T,) float64 nats: log of the guarded probability of each target, in stream order."""
        guarded = np.empty_like(log_p)
        mix.guard(log_p, log_inner, self._state, guarded)
        return guarded
