"""The guard: whatever happens inside, the stream costs at most a few bits more than the model."""

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import guard as kernel

Floats = NDArray[np.float64]


class AnyGuard(Protocol):
    """What stands outermost: the model beside everything inside."""

    @property
    def bound_bits(self) -> float:
        """What `regret_bits` cannot exceed, for any data."""

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; below 0 where the cache helped."""

    @property
    def weights(self) -> tuple[float, float]:
        """Of the model and of everything inside, at the next token."""

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name; still in use."""

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64 nats: log of the guarded probability of each target, in stream order."""


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
        self._odds = np.zeros(2)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name; still in use."""
        return {"odds": self._odds}

    @property
    def log_odds(self) -> float:
        """Nats by which the model is ahead of everything inside."""
        return float(self._odds.sum())

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; below 0 where the cache helped.

        -log2(1/2 + 1/2 prod p_inner / prod p_model): the sum over the tokens telescopes to it.
        """
        return self.bound_bits - float(kernel.softplus(-self.log_odds)) / math.log(2)

    @property
    def weights(self) -> tuple[float, float]:
        """Posterior of the model and of everything inside, each to its own last digit."""
        return posterior(self.log_odds)

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64 nats: log of the guarded probability of each target, in stream order."""
        guarded = np.empty_like(log_p)
        kernel.static(log_p, log_inner, self._odds, guarded)
        return guarded


class SwitchingGuard:
    """The same mixture with a share: it recovers from a bad spell in a logarithm of its length.

    After token t each expert gives 1 / (t + 1) of its weight back to the prior. The path that stays
    with the model keeps 1/2 prod (1 - 1 / (2 (t + 1))) of the prior's mass, whence the bound: about
    0.8 + 1/2 log2 T bits, 12.5 at ten million tokens.

    References
    ----------
    Herbster and Warmuth 1998 (fixed share), with a share that falls as 1 / t.
    """

    def __init__(self) -> None:
        self._odds = np.zeros(1)
        self._regret = np.zeros(2)
        self._n_tokens = np.zeros(1, np.uint32)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name; still in use."""
        return {"odds": self._odds, "regret": self._regret, "tokens": self._n_tokens}

    @property
    def bound_bits(self) -> float:
        """1 + log2(Gamma(3/2) Gamma(T + 1) / Gamma(T + 1/2)) after T tokens; 1 before the first."""
        t = max(int(self._n_tokens[0]), 1)
        nats = math.lgamma(1.5) + math.lgamma(t + 1) - math.lgamma(t + 0.5)
        return 1.0 + nats / math.log(2)

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; below 0 where the cache helped."""
        return float(self._regret.sum()) / math.log(2)

    @property
    def weights(self) -> tuple[float, float]:
        """Of the model and of everything inside, at the next token."""
        return posterior(float(self._odds[0]))

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64 nats: log of the guarded probability of each target, in stream order."""
        guarded = np.empty_like(log_p)
        kernel.switching(
            log_p, log_inner, self._odds, self._regret, int(self._n_tokens[0]), guarded
        )
        self._n_tokens += len(log_p)
        return guarded


class Unguarded:
    """No guard: everything inside as it is, and no bound.

    Attributes
    ----------
    bound_bits : float
        Infinite.
    """

    bound_bits = math.inf
    weights = (0.0, 1.0)

    def __init__(self) -> None:
        self._regret = np.zeros(2)

    def state(self) -> dict[str, NDArray[Any]]:
        """What was learned, by name; still in use."""
        return {"regret": self._regret}

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; below 0 where the cache helped."""
        return float(self._regret.sum()) / math.log(2)

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """`log_inner` (T,) itself; what it costs beyond the model is added up."""
        kernel.add_regret(log_p, log_inner, self._regret)
        return log_inner


def posterior(log_odds: float) -> tuple[float, float]:
    """sigmoid(log_odds) and sigmoid(-log_odds), each to its own last digit."""
    return math.exp(-kernel.softplus(-log_odds)), math.exp(-kernel.softplus(log_odds))
