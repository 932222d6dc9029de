"""The guard: the outermost mixture, which bounds the cost of the stream beyond the model's own."""

import math
from typing import Protocol

import numpy as np

from ngrammix.checks import MAX_NATS, MAX_POSITION
from ngrammix.kernels import guard as kernel
from ngrammix.types import Floats, StateDict

ROUNDING = 1e-3  # bits, of sums over a long stream


class AnyGuard(Protocol):
    """A mixture of the model and the inner experts (tilt and gate)."""

    @property
    def bound_bits(self) -> float:
        """Upper bound of `regret_bits`, for any data."""

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own bits; negative where the cache helped."""

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the model and of the inner experts at the next token."""

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""

    def check(self) -> None:
        """Raise ValueError if no stream can lead to the learned arrays."""

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64, nats: log-probability of each target, in stream order."""


class Guard:
    """Bayes mixture of two experts, the model and the inner experts, prior 1/2 each.

    The product of its probabilities is 1/2 (prod p_model + prod p_inner), so for any data and any
    normalised inner predictor: total bits <= the model's bits + 1. Kept as a log-odds, because
    weights in linear space underflow and then never recover.

    Attributes
    ----------
    bound_bits : float
        1.0: upper bound of the cost of the stream beyond the model's.
    """

    bound_bits = 1.0

    def __init__(self) -> None:
        self._log_odds = np.zeros(2)

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"odds": self._log_odds}

    def check(self) -> None:
        """Raise ValueError if no stream can lead to the learned arrays."""
        check_sums(self._log_odds)

    @property
    def log_odds(self) -> float:
        """log(prod p_model / prod p_inner) over the tokens so far, nats."""
        return float(self._log_odds.sum())

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own bits; negative where the cache helped.

        -log2(1/2 + 1/2 prod p_inner / prod p_model): the sum over the tokens telescopes to it.
        """
        return self.bound_bits - float(kernel.softplus(-self.log_odds)) / math.log(2)

    @property
    def weights(self) -> tuple[float, float]:
        """Posterior of the model and of the inner experts, each to full relative precision."""
        return posterior(self.log_odds)

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64, nats: log-probability of each target, in stream order."""
        log_mixed = np.empty_like(log_p)
        kernel.mix(log_p, log_inner, self._log_odds, log_mixed)
        return log_mixed


class SwitchingGuard:
    """Fixed-share mixture of the same two experts: it can switch back to an expert that improves.

    After token t, each expert returns 1 / (t + 1) of its weight to the prior. The path that always
    follows the model retains 1/2 prod (1 - 1 / (2 (t + 1))) of the prior mass, which gives the
    bound: about 0.8 + 1/2 log2 T bits, 12.5 bits at ten million tokens.

    References
    ----------
    Herbster and Warmuth 1998 (fixed share), with a share that decreases as 1 / t.
    """

    def __init__(self) -> None:
        self._log_odds = np.zeros(1)
        self._regret = np.zeros(2)
        self._n_tokens = np.zeros(1, np.uint32)

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"odds": self._log_odds, "regret": self._regret, "tokens": self._n_tokens}

    def check(self) -> None:
        """Raise ValueError if no stream can lead to the learned arrays."""
        check_sums(self._log_odds)
        check_sums(self._regret)
        if self.regret_bits > self.bound_bits + ROUNDING:
            raise ValueError("the regret of the guard exceeds its bound")

    @property
    def bound_bits(self) -> float:
        """1 + log2(Gamma(3/2) Gamma(T + 1) / Gamma(T + 1/2)) after T tokens; 1 before the first."""
        t = max(int(self._n_tokens[0]), 1)
        nats = math.lgamma(1.5) + math.lgamma(t + 1) - math.lgamma(t + 0.5)
        return 1.0 + nats / math.log(2)

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own bits; negative where the cache helped."""
        return float(self._regret.sum()) / math.log(2)

    @property
    def weights(self) -> tuple[float, float]:
        """Weights of the model and of the inner experts at the next token."""
        return posterior(float(self._log_odds[0]))

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """(T,) float64, nats: log-probability of each target, in stream order."""
        log_mixed = np.empty_like(log_p)
        kernel.mix_switching(
            log_p, log_inner, self._log_odds, self._regret, int(self._n_tokens[0]), log_mixed
        )
        self._n_tokens += len(log_p)
        return log_mixed


class Unguarded:
    """No guard: the inner experts alone, without a bound.

    Attributes
    ----------
    bound_bits : float
        Infinite.
    """

    bound_bits = math.inf
    weights = (0.0, 1.0)

    def __init__(self) -> None:
        self._regret = np.zeros(2)

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"regret": self._regret}

    def check(self) -> None:
        """Raise ValueError if no stream can lead to the learned arrays."""
        check_sums(self._regret)

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own bits; negative where the cache helped."""
        return float(self._regret.sum()) / math.log(2)

    def mix(self, log_p: Floats, log_inner: Floats) -> Floats:
        """`log_inner` (T,) unchanged; its cost beyond the model's is added to the regret."""
        kernel.add_regret(log_p, log_inner, self._regret)
        return log_inner


def check_sums(sums: Floats) -> None:
    """Raise ValueError if a sum of nats is larger than that of the longest stream."""
    if not (np.abs(sums) < 4 * MAX_NATS * MAX_POSITION).all():
        raise ValueError("a sum of the guard is too large")


def posterior(log_odds: float) -> tuple[float, float]:
    """sigmoid(log_odds) and sigmoid(-log_odds), each to full relative precision."""
    return math.exp(-kernel.softplus(-log_odds)), math.exp(-kernel.softplus(log_odds))
