"""Codebooks of numbers: those with the least squared error, and a fixed one."""

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.base.config import check_choice, check_int
from quant.kernels.lloyd_max import best_partition

Vector = NDArray[np.float64]

METHODS = ("exact", "iterative")
CELLS = 65_536  # values, or cells of values, that are partitioned exactly
NOTHING = 2.0**-50  # of all weight: less would be lost in its sums
SETTLED = 10_000  # iterations after which Lloyd's method is not waited for


def lloyd_max(
    values: ArrayLike, k: int, *, weights: ArrayLike | None = None, method: str = "exact"
) -> Vector:
    """Values (K,) float64, ascending: K = k where as many numbers differ.

    "exact": of up to 65,536 different numbers the optimum itself, by dynamic programming, up to
    rounding (about 1e-12 of the variance); of more, the optimum over cells of neighbours, then
    Lloyd's iterations over all numbers. "iterative": Lloyd's alone, from parts of as many different
    numbers each; for comparison. It may leave a part empty, and that value out.

    Parameters
    ----------
    values : float, of any shape, finite in float32
        At least one.
    k : int in 1..256
        Values that may be used.
    weights : float >= 0, of the shape of `values`, optional
        What the squared error of each counts; 1 if none are given. Less than 1e-15 of their sum
        counts as 0.
    method : str
        "exact" or "iterative".

    Raises
    ------
    ValueError
        If an argument is anything else, or no weight is above 0.

    Examples
    --------
    >>> lloyd_max([0.0, 1.0, 10.0, 12.0], 2)
    array([ 0.5, 11. ])
    """
    check_int(k, "k", 1, 256)
    check_choice(method, "method", METHODS)
    x, mass = distinct(values, weights)
    if len(x) <= k:
        return x
    middle = float(np.sum(mass * x) / mass.sum())
    x = x - middle  # sums of squares lose least where the mean is 0
    starts = exact(x, mass, k) if method == "exact" else np.arange(k) * len(x) // k
    starts = settle(x, mass, starts)
    starts = starts[np.diff(starts, append=len(x)) > 0]
    centroids: Vector = np.add.reduceat(mass * x, starts) / np.add.reduceat(mass, starts)
    return centroids + middle


def distinct(values: ArrayLike, weights: ArrayLike | None) -> tuple[Vector, Vector]:
    """(different values that count (N,), ascending; the weight of each), checked."""
    x = np.asarray(values)
    if x.dtype.kind != "f" or x.size == 0:
        raise ValueError(
            f"values must be floats, at least one, got {x.dtype} of shape {x.shape}; cast them"
        )
    with np.errstate(over="ignore"):
        wrong = ~np.isfinite(x.astype(np.float32, copy=False))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"values must be finite in float32, got {x.flat[place]} at {place}; leave it out"
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
    counts = mass > NOTHING * mass.sum()
    x, mass = x[counts], mass[counts]
    order = np.argsort(x, kind="stable")
    x, mass = x[order].astype(np.float64), mass[order]
    starts = changes(x)
    return x[starts], np.add.reduceat(mass, starts)


def changes(x: NDArray[np.floating]) -> NDArray[np.int64]:
    """Where a run of equal values begins in x (N,)."""
    return np.flatnonzero(np.concatenate([[True], x[1:] != x[:-1]]))


def exact(x: Vector, mass: Vector, k: int) -> NDArray[np.int64]:
    """Where the k parts of x (N,) begin that have the least error, N > k."""
    cells = np.arange(len(x)) if len(x) <= CELLS else cells_of(x, mass)
    sums = (np.add.reduceat(part, cells) for part in (mass, mass * x, mass * x * x))
    before = (np.concatenate([[0.0], np.cumsum(part)]) for part in sums)
    choice = np.empty((k, len(cells) + 1), np.uint16)
    ends = best_partition(*before, k, choice)
    starts: NDArray[np.int64] = cells[np.concatenate([[0], ends[:-1]])]
    return starts


def cells_of(x: Vector, mass: Vector) -> NDArray[np.int64]:
    """Where at most `CELLS` runs of neighbours in x (N,) begin; more than k of them.

    A run has little of the weight, few of the numbers, and little of what the levels of a good
    quantizer are spread by: the density's cube root (Panter and Dite), which a gap next to a
    number of that weight estimates as weight^(1/3) gap^(2/3).
    """
    spread = np.cbrt(mass * np.square(np.diff(x, prepend=x[0])))
    place = np.arange(len(x)) / len(x)
    for measure in (mass, spread):
        place += np.cumsum(measure) / measure.sum()
    return changes(np.floor(place * (CELLS / 3.001)))


def settle(x: Vector, mass: Vector, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the parts begin once Lloyd's iterations change nothing; a part may be empty."""
    masses = np.concatenate([[0.0], np.cumsum(mass)])
    firsts = np.concatenate([[0.0], np.cumsum(mass * x)])
    centroids = np.zeros(len(starts))
    for _ in range(SETTLED):
        edges = np.append(starts, len(x))
        # the centroid of an empty part stays
        is_used = edges[1:] > edges[:-1]
        np.divide(np.diff(firsts[edges]), np.diff(masses[edges]), centroids, where=is_used)
        middles = (centroids[1:] + centroids[:-1]) / 2
        after = np.concatenate([[0], np.searchsorted(x, middles, side="right")])
        if np.array_equal(after, starts):
            break
        starts = after
    return starts


def normal_float() -> NDArray[np.float32]:
    """NF4: (16,) float32, ascending, from -1 to 1, with a 0.

    Quantiles of the normal distribution at even distances of probability, 7 below 0 and 8 above;
    the outermost leave 1/30 and 1/32 to both ends together, on average (Dettmers et al., 2023).
    """
    outermost = 1 - (1 / 30 + 1 / 32) / 2
    quantile = NormalDist().inv_cdf
    below = [-quantile(p) for p in np.linspace(outermost, 0.5, 8)[:-1]]
    above = [quantile(p) for p in np.linspace(0.5, outermost, 9)[1:]]
    return (np.array([*below, 0.0, *above]) / above[-1]).astype(np.float32)


NF4 = normal_float()
NF4.flags.writeable = False
