"""TokenScores: what each token cost, with the cache and without."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenScores:
    """What each of N tokens cost, and what it would have cost.

    Attributes
    ----------
    nats, nats_model : (N,) float64, nats
        Cost under the mixture, and under the model alone.
    matched_order : (N,) int64
        Length of the longest n-gram that could answer, the predicted token included.
    """

    nats: Floats
    nats_model: Floats
    matched_order: Tokens
