"""What follows from measured losses: those of a curve at other bytes, and rank correlation."""

from collections.abc import Iterable
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike, NDArray


def loss_at(n_bytes: int, curve: Iterable[tuple[int, float]]) -> float | None:
    """The loss that a curve of (bytes, loss) has at so many bytes.

    Its logarithm is linear from point to point. None beyond the ends; points whose loss is not
    above 0 are left out.
    """
    points = sorted((size, log(loss)) for size, loss in curve if loss > 0)
    if not points or not points[0][0] <= n_bytes <= points[-1][0]:
        return None
    sizes, logs = np.array(points).T
    return exp(float(np.interp(n_bytes, sizes, logs)))


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Rank correlation of (N,) and (N,); None if either is the same throughout."""
    ranks = np.stack([mean_ranks(x), mean_ranks(y)])
    if (ranks == ranks[:, :1]).all(axis=1).any():
        return None
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank of each, from 1; those that tie share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks
