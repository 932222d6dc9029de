"""The tilt: the model's probabilities of the hints, corrected by logistic regression.

Of the mass that the hints before it leave, the model gives hint j the share r_j. The tilt makes it
r'_j = sigmoid(slope_j logit r_j + weights), with one weight for each vote for the hint, one for
(the hint, its odds), one for (the hint, the token before) and one for (its source, its odds, the
model's entropy). The mass that the last hint leaves is spread as the model spreads it, so the sum
is 1 for any r'. Where a context was seen before, the model's most probable token is the last hint.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.candidates.proposer import Hints
from ngrammix.kernels import tilt as kernel
from ngrammix.model_logprobs import ModelLogprobs
from ngrammix.types import Floats, StateDict, Tokens

# Votes count before anything is learned; slopes near 1 leave the model's own odds.
PRIOR_VOTE, PRIOR_SLOPE = 0.2, 0.8
# Gradients are at most 745, the largest log-odds: over 2**30 tokens AdaGrad stays far below these.
MAX_VALUE, MAX_SQUARES = 1e8, 1e17


class Tilt:
    """Stick-breaking mixture over the hints, by logistic regression that learns after each token.

    References
    ----------
    Duchi, Hazan and Singer 2011 (AdaGrad, the step size of each weight).
    Sethuraman 1994 (stick-breaking).
    """

    def __init__(self) -> None:
        self._slopes = np.zeros((kernel.CHAIN_LENGTH, 2))
        self._slopes[:, 0] = PRIOR_SLOPE
        self._weights = np.zeros((kernel.N_ROWS, 2))
        self._weights[kernel.OF_VOTE :, 0] = PRIOR_VOTE

    @property
    def nbytes(self) -> int:
        """Bytes of the learned weights."""
        return self._slopes.nbytes + self._weights.nbytes

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"slopes": self._slopes, "weights": self._weights}

    def check(self) -> None:
        """Raise ValueError if a value or a sum of squares is none that a stream can lead to."""
        for array in (self._slopes, self._weights):
            values, squares = array.T
            if not (np.abs(values) < MAX_VALUE).all() or not (squares < MAX_SQUARES).all():
                raise ValueError("a weight of the tilt is too large")
            if squares.min() < 0:
                raise ValueError("a sum of squares of the tilt is negative")

    def mix(self, targets: Tokens, logprobs: ModelLogprobs, hints: Hints) -> Floats:
        """(T,) float64, nats: log-probability of each target; learned after each token."""
        log_mixed = np.empty_like(logprobs.log_p)
        kernel.mix(
            targets, logprobs.log_p, *inputs(logprobs, hints), self._slopes, self._weights,
            log_mixed,
        )  # fmt: skip
        return log_mixed

    def distribution(self, p: Floats, logprobs: ModelLogprobs, hints: Hints) -> Floats:
        """(V,) float64: the tilted distribution at one position with votes, from p (V,)."""
        tokens, shares = np.empty(kernel.CHAIN_LENGTH, np.int64), np.empty(kernel.CHAIN_LENGTH)
        n, mass = kernel.full_chain(
            *inputs(logprobs, hints), self._slopes, self._weights, tokens, shares
        )
        tokens, shares = tokens[:n], shares[:n]
        p_hints = shares * np.cumprod([1.0, *(1.0 - shares[:-1])])[:n]
        tilted: Floats = p * (np.prod(1.0 - shares) / mass)
        tilted[tokens] = p_hints
        return tilted


def inputs(logprobs: ModelLogprobs, hints: Hints) -> tuple[NDArray[Any], ...]:
    """Arrays of the T positions, in the order in which the kernels take them."""
    return (
        logprobs.entropy, hints.previous, hints.tokens, logprobs.log_hints, logprobs.top,
        logprobs.log_top, hints.sources, hints.vote_hints, hints.vote_cells, hints.n_votes,
    )  # fmt: skip
