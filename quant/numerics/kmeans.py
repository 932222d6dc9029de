"""K-means: centroids with a small sum of squared errors."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.base.config import check_int
from quant.kernels.kmeans import accumulate, assign, lower_distances
from quant.types import Float64, Indices, Matrix

SAMPLE_PER_CENTROID = 64  # points that the start is drawn from, at most
SAFE = 2.0**40  # squares of magnitudes from 1 / SAFE to SAFE fit float32 with a margin


def kmeans(
    points: ArrayLike,
    k: int,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    iterations: int = 25,
    tolerance: float = 1e-4,
) -> Matrix:
    """Fit centroids (K, d) float32, K <= k; fewer only where fewer points differ.

    A k-means++ start from a sample is followed by Lloyd's iterations over all points. A centroid
    without points moves to the point with the largest error. Equal arguments give equal bits, on
    any number of threads.

    Parameters
    ----------
    points : (N, d) float, finite
        Converted to float32.
    k : int in 1..65536
        Number of centroids, at most.
    weights : (N,) float >= 0, optional
        Weights of the squared errors of the points; 1 if absent.
    seed : int >= 0
        Seed of the start.
    iterations : int in 1..10000
        Iterations, at most.
    tolerance : float >= 0
        Stop when an iteration lowers the error by less than this fraction.

    Raises
    ------
    ValueError
        If an argument has another shape, dtype or range, or no weight is above 0.
    """
    k = check_int(k, "k", 1, 65_536)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    iterations = check_int(iterations, "iterations", 1, 10_000)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}; 0 stops when nothing changes")
    x, mass = check_points(points), check_weights(weights, len(np.asarray(points)))
    x, mass = x[mass > 0], mass[mass > 0]
    shift = safe_shift(x)
    x = np.ldexp(x, shift)
    centroids = start(x, mass, k, seed)
    before = np.inf
    for _ in range(iterations):
        codes, distances = nearest_scaled(x, centroids)
        error = float(np.sum(mass * distances))
        centroids, is_used = means(x, mass, codes, centroids)
        n_missing = k - int(is_used.sum())
        if n_missing > 0:
            centroids = np.concatenate(
                [centroids[is_used], farthest(x, mass, centroids[is_used], n_missing)]
            )
        if error >= before * (1 - tolerance):
            break
        before = error
    return np.ldexp(centroids, -shift)


def nearest(points: ArrayLike, centroids: ArrayLike) -> Indices:
    """Return the index (N,) of the centroid (K, d) nearest to each point (N, d); ties: the first.

    ValueError if either is not finite, or their dimensions d differ.
    """
    x, table = check_points(points), check_points(centroids, "centroids")
    if x.shape[1] != table.shape[1]:
        raise ValueError(
            f"points and centroids must have the same dimensions, got {x.shape[1]} and "
            f"{table.shape[1]}; use the centroids of these points"
        )
    shift = safe_shift(x, table)
    return nearest_scaled(np.ldexp(x, shift), np.ldexp(table, shift))[0]


def nearest_scaled(points: Matrix, centroids: Matrix) -> tuple[Indices, NDArray[np.float32]]:
    """Return (indices, squared distances) for points whose squares fit float32."""
    codes, distances = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    assign(points, np.ascontiguousarray(centroids.T), codes, distances)
    return codes, distances


def start(points: Matrix, weights: Float64, k: int, seed: int) -> Matrix:
    """Draw K <= k different points (K, d) from a sample by k-means++.

    Each point is drawn with probability proportional to its weighted squared distance from those
    drawn before. K < k where the sample has fewer different points.
    """
    rng = np.random.default_rng(seed)
    if len(points) > SAMPLE_PER_CENTROID * k:
        chosen = np.sort(
            rng.choice(len(points), SAMPLE_PER_CENTROID * k, replace=False, shuffle=False)
        )
        points, weights = np.ascontiguousarray(points[chosen]), weights[chosen]
    distances = np.full(len(points), np.inf, np.float32)
    shares = weights
    drawn: list[int] = []
    while len(drawn) < k and (total := np.cumsum(shares))[-1] > 0:
        # below the total, also where the product rounds up to it: the weight drawn is above 0
        share = min(rng.random() * total[-1], np.nextafter(total[-1], 0))
        drawn.append(int(np.searchsorted(total, share, side="right")))
        lower_distances(points, points[drawn[-1]], distances)
        shares = weights * distances
    return points[drawn]


def means(
    points: Matrix, weights: Float64, codes: Indices, before: Matrix
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Return (mean of each code's points, or the centroid before; whether the code has points)."""
    sums, masses = np.zeros(before.shape), np.zeros(len(before))
    accumulate(points, weights, codes, sums, masses)
    is_used = masses > 0
    centroids = before.copy()
    centroids[is_used] = sums[is_used] / masses[is_used, None]
    return centroids, is_used


def farthest(points: Matrix, weights: Float64, centroids: Matrix, n: int) -> Matrix:
    """Return up to n points (n, d): in turn, the one with the largest weighted error.

    Fewer where every point coincides with a centroid.
    """
    distances = nearest_scaled(points, centroids)[1]
    chosen: list[int] = []
    while len(chosen) < n:
        index = int(np.argmax(weights * distances))
        if distances[index] == 0:
            break
        chosen.append(index)
        lower_distances(points, points[index], distances)
    return points[chosen]


def safe_shift(*points: Matrix) -> int:
    """Return the exponent of the power of two by which to multiply, so that squares fit float32."""
    largest = max(float(np.abs(x).max()) for x in points)
    if largest == 0 or 1 / SAFE <= largest <= SAFE:
        return 0
    return 1 - int(np.frexp(largest)[1])


def check_points(points: ArrayLike, name: str = "points") -> Matrix:
    """Return points (N, d) float32; ValueError unless there is at least one and all are finite."""
    x = np.asarray(points)
    if x.ndim != 2 or x.size == 0 or x.dtype.kind != "f":
        raise ValueError(
            f"{name} must be floats of shape (N, d), at least one, got {x.dtype} of shape "
            f"{x.shape}; reshape or cast them"
        )
    with np.errstate(over="ignore"):  # infinities are refused below
        x = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(
            f"{name} must be finite, got {x[row, column]} in row {row}, column {column}; leave "
            "it out"
        )
    return x


def check_weights(weights: ArrayLike | None, n: int) -> Float64:
    """Return weights (n,) float64, the largest 1; ValueError unless >= 0 and one is above 0."""
    if weights is None:
        return np.ones(n)
    mass = np.asarray(weights, np.float64)
    if mass.shape != (n,):
        raise ValueError(f"weights must be of shape ({n},), got {mass.shape}; give each point one")
    if not (np.isfinite(mass).all() and mass.min() >= 0 and mass.max() > 0):
        raise ValueError(
            f"weights must be finite and >= 0, and one above 0, got {mass.min()}..{mass.max()}; "
            "leave them out for equal ones"
        )
    normalized: Float64 = mass / mass.max()
    return normalized
