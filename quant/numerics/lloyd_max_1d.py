"""Codebooks of numbers: those with the smallest squared error, and the fixed table NF4."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.base.config import check_choice, check_int
from quant.kernels.lloyd_max import best_partition
from quant.types import Float64, Indices, Matrix

METHODS = ("exact", "iterative")
MAX_CELLS = 65_536  # values, or cells of values, that are partitioned exactly
NEGLIGIBLE = 2.0**-50  # fraction of the total weight below which rounding loses a weight
MAX_ITERATIONS = 10_000  # of Lloyd's method


def lloyd_max(
    values: ArrayLike, k: int, *, weights: ArrayLike | None = None, method: str = "exact"
) -> Float64:
    """Fit a codebook (K,) float64, ascending; K = k if at least k numbers differ.

    "exact" is the optimum by dynamic programming for up to 65,536 different numbers, except for
    rounding (about 1e-12 of the variance). For more numbers it is the optimum over cells of
    neighbours, followed by Lloyd's iterations over all numbers. "iterative" runs Lloyd's iterations
    only, from parts with equal counts of different numbers; it may leave a part empty, and then
    K < k.

    Parameters
    ----------
    values : float, of any shape, finite in float32
        At least one.
    k : int in 1..256
        Size of the codebook, at most.
    weights : float >= 0, of the shape of `values`, optional
        Weights of the squared errors; 1 if absent. Weights below 1e-15 of their sum count as 0.
    method : str
        "exact" or "iterative".

    Raises
    ------
    ValueError
        If an argument has another shape, dtype or range, or no weight is above 0.

    Examples
    --------
    >>> lloyd_max([0.0, 1.0, 10.0, 12.0], 2)
    array([ 0.5, 11. ])
    """
    k = check_int(k, "k", 1, 256)
    check_choice(method, "method", METHODS)
    x, mass = distinct(values, weights)
    if len(x) <= k:
        return x
    mean = float(np.sum(mass * x) / mass.sum())
    x = x - mean  # sums of squares round least where the mean is 0
    starts = exact(x, mass, k) if method == "exact" else np.arange(k) * len(x) // k
    starts = lloyd(x, mass, starts)
    starts = starts[np.diff(starts, append=len(x)) > 0]
    centroids: Float64 = np.add.reduceat(mass * x, starts) / np.add.reduceat(mass, starts)
    return centroids + mean


def distinct(values: ArrayLike, weights: ArrayLike | None) -> tuple[Float64, Float64]:
    """Return (different values with weight (N,), ascending; their weights), checked."""
    x = np.asarray(values)
    if x.dtype.kind != "f" or x.size == 0:
        raise ValueError(
            f"values must be floats, at least one, got {x.dtype} of shape {x.shape}; cast them"
        )
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(x.astype(np.float32, copy=False))
    if wrong.any():
        position = int(np.argmax(wrong))
        raise ValueError(
            f"values must be finite in float32, got {x.flat[position]} at position {position}; "
            "leave it out"
        )
    if weights is None:
        x = np.sort(x, axis=None)
        starts = changes(x)
        return x[starts].astype(np.float64), np.diff(starts, append=x.size).astype(np.float64)
    mass = np.asarray(weights, np.float64)
    if mass.shape != x.shape:
        raise ValueError(
            f"weights must be of shape {x.shape}, as the values are, got {mass.shape}; give each "
            "value one"
        )
    if not (np.isfinite(mass).all() and mass.min() >= 0 and mass.max() > 0):
        raise ValueError(
            f"weights must be finite and >= 0, and one above 0, got {mass.min()}..{mass.max()}; "
            "leave them out for equal ones"
        )
    mass = mass / mass.max()
    is_counted = mass > NEGLIGIBLE * mass.sum()
    x, mass = x[is_counted], mass[is_counted]
    order = np.argsort(x, kind="stable")
    x, mass = x[order].astype(np.float64), mass[order]
    starts = changes(x)
    return x[starts], np.add.reduceat(mass, starts)


def changes(x: NDArray[np.floating]) -> Indices:
    """Return the first index of each run of equal values in x (N,)."""
    return np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))


def exact(x: Float64, mass: Float64, k: int) -> Indices:
    """Return the first index of each of the k parts of x (N,) with the smallest error, N > k."""
    cells = np.arange(len(x)) if len(x) <= MAX_CELLS else cells_of(x, mass)
    sums = (np.add.reduceat(part, cells) for part in (mass, mass * x, mass * x * x))
    before = (np.concatenate([[0.0], np.cumsum(part)]) for part in sums)
    choice = np.empty((k, len(cells) + 1), np.uint16)
    ends = best_partition(*before, k, choice)
    starts: Indices = cells[np.concatenate([[0], ends[:-1]])]
    return starts


def cells_of(x: Float64, mass: Float64) -> Indices:
    """Return the first index of each cell of neighbours in x (N,): k < cells <= `MAX_CELLS`.

    Each cell has a small share of three measures: the numbers, their weight, and the cube root of
    the density, by which the levels of a good quantizer are distributed (Panter and Dite). A gap
    next to a number of some weight estimates the last as weight^(1/3) gap^(2/3).
    """
    cube_root = np.cbrt(mass * np.square(np.diff(x, prepend=x[0])))
    shares = np.arange(len(x)) / len(x)
    for measure in (mass, cube_root):
        shares += np.cumsum(measure) / measure.sum()
    return changes(np.floor(shares * (MAX_CELLS / 3.001)))


def lloyd(x: Float64, mass: Float64, starts: Indices) -> Indices:
    """Run Lloyd's iterations to a fixed point; return the first index of each part.

    A part may be empty.
    """
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    firsts = np.concatenate([[0.0], np.cumsum(mass * x)])
    centroids = np.zeros(len(starts))
    for _ in range(MAX_ITERATIONS):
        edges = np.append(starts, len(x))
        # the centroid of an empty part is kept
        is_used = edges[1:] > edges[:-1]
        np.divide(np.diff(firsts[edges]), np.diff(masses[edges]), centroids, where=is_used)
        middles = (centroids[1:] + centroids[:-1]) / 2
        after = np.concatenate([[0], np.searchsorted(x, middles, side="right")])
        if np.array_equal(after, starts):
            break
        starts = after
    return starts


def normal_float() -> Matrix:
    """Compute NF4: (16,) float32, ascending, from -1 to 1, including 0.

    The values are quantiles of the normal distribution at equally spaced probabilities, 7 below 0
    and 8 above, scaled to a largest value of 1. The outermost probability is the mean of those that
    leave half of 1/30 and half of 1/32 beyond each end.

    References
    ----------
    Dettmers, Pagnoni, Holtzman and Zettlemoyer 2023 (QLoRA), https://arxiv.org/abs/2305.14314
    """
    outermost = 1 - (1 / 30 + 1 / 32) / 2
    quantile = NormalDist().inv_cdf
    below = [-quantile(p) for p in np.linspace(outermost, 0.5, 8)[:-1]]
    above = [quantile(p) for p in np.linspace(0.5, outermost, 9)[1:]]
    return (np.array([*below, 0.0, *above]) / above[-1]).astype(np.float32)


NF4 = normal_float()
NF4.flags.writeable = False
