"""TokenScores: costs of tokens under the mixture and under the model."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from ngrammix.types import Floats, Tokens


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Costs of tokens, as arrays of one shape: the shape of the targets.

    Attributes
    ----------
    nats, nats_model : (...) float64, nats
        Negative log-probability under the mixture and under the model alone; 0.0 where the target
        was ignored.
    matched_order : (...) int64
        Length of the longest n-gram that the cache could use, the predicted token included: 1 if
        only the empty context was seen, 0 before the first token and where the target was ignored.
    """

    nats: Floats
    nats_model: Floats
    matched_order: Tokens

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Self:
        """Scores of `shape` that are all 0."""
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))

    def put(self, positions: Tokens, scores: "TokenScores") -> None:
        """Write `scores` (N,) at the flat (C order) `positions` (N,)."""
        np.put(self.nats, positions, scores.nats)
        np.put(self.nats_model, positions, scores.nats_model)
        np.put(self.matched_order, positions, scores.matched_order)
