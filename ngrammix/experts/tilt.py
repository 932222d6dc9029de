"""The tilt: the model's probability of the hints, corrected by what experience says of them.

Of the mass that the hints before it leave, the model gives hint h the share r; the tilt makes it
r' = sigmoid(slope logit r + weights), where the weights are those of the votes for h, of h itself,
of h after the last token, and of who named it at these odds and this entropy of the model. What is
left after the last hint is spread as the model spreads it. Whatever r' is, the sum stays 1. The
model's own top token ends the chain, where there is any evidence: experience corrects it likewise.
"""

import numpy as np

from ngrammix.candidates.proposer import Hints
from ngrammix.kernels import tilt as kernel
from ngrammix.logits import ModelLogprobs
from ngrammix.types import Floats, StateDict, Tokens

# A vote counts for its hint from the start; the slopes start near 1, at the model's own odds.
PRIOR_VOTE, PRIOR_SLOPE = 0.2, 0.8


class Tilt:
    """Stick-breaking mixture over the hints, by logistic regression that learns after each score.

    References
    ----------
    Duchi, Hazan and Singer 2011 (AdaGrad, which sets the step of each weight).
    """

    def __init__(self) -> None:
        self._of_odds = np.zeros((kernel.CHAIN_LENGTH, 2))
        self._of_odds[:, 0] = PRIOR_SLOPE
        self._weights = np.zeros((kernel.N_ROWS, 2))
        self._weights[kernel.OF_VOTE :, 0] = PRIOR_VOTE

    @property
    def nbytes(self) -> int:
        """Bytes of the learned weights."""
        return self._of_odds.nbytes + self._weights.nbytes

    def state_dict(self) -> StateDict:
        """Learned arrays by name; not copied."""
        return {"slopes": self._of_odds, "weights": self._weights}

    def check(self) -> None:
        """Raise ValueError if a sum of squares is negative."""
        if min(self._of_odds[:, 1].min(), self._weights[:, 1].min()) < 0:
            raise ValueError("a sum of squares of the tilt is negative")

    def mix(self, targets: Tokens, model: ModelLogprobs, hints: Hints) -> Floats:
        """(T,) float64 nats: log of the tilted probability of each target, learned one by one."""
        tilted = np.empty_like(model.log_p)
        kernel.tilt(
            targets, model.log_p, model.entropy, hints.previous, hints.tokens, model.log_hints,
            model.top, model.log_top, hints.sources, hints.vote_hints, hints.vote_cells,
            hints.n_votes, self._of_odds, self._weights, tilted,
        )  # fmt: skip
        return tilted

    def distribution(self, p: Floats, model: ModelLogprobs, hints: Hints) -> Floats:
        """(V,) float64: the tilted distribution at one position with votes, from p (V,)."""
        named, shares = np.empty(kernel.CHAIN_LENGTH, np.int64), np.empty(kernel.CHAIN_LENGTH)
        n, left = kernel.line(
            model.entropy, hints.previous, hints.tokens, model.log_hints, model.top, model.log_top,
            hints.sources, hints.vote_hints, hints.vote_cells, hints.n_votes,
            self._of_odds, self._weights, named, shares,
        )  # fmt: skip
        given = shares[:n] * np.cumprod([1.0, *(1.0 - shares[: n - 1])])[:n]
        tilted: Floats = p * (np.prod(1.0 - shares[:n]) / left)
        tilted[named[:n]] = given
        return tilted
