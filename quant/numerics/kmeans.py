"""K-means: the centroids that stand for points with the least squared error, nearly."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.base.config import check_int
from quant.kernels.kmeans import add_up, approach, assign

Points = NDArray[np.float32]

SEEDED = 64  # points a centroid that the start is drawn from, at most
SAFE = 2.0**40  # from 1 / SAFE to SAFE, squares fit float32 with room to spare


def kmeans(
    points: ArrayLike,
    k: int,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    iterations: int = 25,
    tolerance: float = 1e-4,
) -> Points:
    """Centroids (K, d) float32, K <= k: fewer only where fewer points differ.

    A k-means++ start drawn from a sample, then Lloyd's iterations over all points; a centroid that
    no point is nearest to is put where the point farthest from its own is. The same arguments give
    the same bits, on any number of threads.

    Parameters
    ----------
    points : (N, d) float, finite
        Taken as float32.
    k : int in 1..65536
        Centroids that may be used.
    weights : (N,) float >= 0, optional
        What the squared error of each point counts; 1 if none are given.
    seed : int >= 0
        Of the start.
    iterations : int in 1..10000
        At most as many.
    tolerance : float >= 0
        Stop when an iteration lowers the error by a smaller share than this.

    Raises
    ------
    ValueError
        If an argument is anything else, or no weight is above 0.
    """
    check_int(k, "k", 1, 65_536)
    check_int(seed, "seed", 0, 2**63 - 1)
    check_int(iterations, "iterations", 1, 10_000)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0, got {tolerance}; 0 stops when nothing changes")
    held, mass = check_points(points), check_weights(weights, len(np.asarray(points)))
    held, mass = held[mass > 0], mass[mass > 0]
    shift = safe_shift(held)
    held = np.ldexp(held, shift)
    centroids = start(held, mass, k, seed)
    before = np.inf
    for _ in range(iterations):
        codes, distances = nearest_scaled(held, centroids)
        error = float(np.sum(mass * distances))
        centroids, is_used = means(held, mass, codes, centroids)
        n_missing = k - int(is_used.sum())
        if n_missing > 0:
            centroids = np.concatenate(
                [centroids[is_used], farthest(held, mass, centroids[is_used], n_missing)]
            )
        if error >= before * (1 - tolerance):
            break
        before = error
    return np.ldexp(centroids, -shift)


def nearest(points: ArrayLike, centroids: ArrayLike) -> NDArray[np.int64]:
    """Index (N,) of the nearest centroid (K, d) of each point (N, d), the first of equals.

    ValueError if either is not finite, or they differ in d.
    """
    held, table = check_points(points), check_points(centroids, "centroids")
    if held.shape[1] != table.shape[1]:
        raise ValueError(
            f"points and centroids must have as many dimensions, got {held.shape[1]} and "
            f"{table.shape[1]}; these centroids are of other points"
        )
    shift = safe_shift(held, table)
    return nearest_scaled(np.ldexp(held, shift), np.ldexp(table, shift))[0]


def nearest_scaled(
    points: Points, centroids: Points
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(indices, squared distances) of points whose squares fit float32."""
    codes, distances = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    assign(points, np.ascontiguousarray(centroids.T), codes, distances)
    return codes, distances


def start(points: Points, weights: NDArray[np.float64], k: int, seed: int) -> Points:
    """Centroids (K, d), K <= k, at points drawn by k-means++ from a sample.

    Each next one is drawn with probability proportional to what its error now counts; none of
    those drawn are equal. K < k where the sample has no more that differ.
    """
    rng = np.random.default_rng(seed)
    if len(points) > SEEDED * k:
        chosen = np.sort(rng.choice(len(points), SEEDED * k, replace=False, shuffle=False))
        points, weights = np.ascontiguousarray(points[chosen]), weights[chosen]
    distances = np.full(len(points), np.inf, np.float32)
    shares = weights
    drawn: list[int] = []
    while len(drawn) < k and (total := np.cumsum(shares))[-1] > 0:
        # below the total, also where the product rounds up to it: the point drawn counts something
        share = min(rng.random() * total[-1], np.nextafter(total[-1], 0))
        drawn.append(int(np.searchsorted(total, share, side="right")))
        approach(points, points[drawn[-1]], distances)
        shares = weights * distances
    return points[drawn]


def means(
    points: Points, weights: NDArray[np.float64], codes: NDArray[np.int64], before: Points
) -> tuple[Points, NDArray[np.bool_]]:
    """(centroid of each code's points, as before if it has none; whether it has any)."""
    sums, masses = np.zeros(before.shape), np.zeros(len(before))
    add_up(points, weights, codes, sums, masses)
    is_used = masses > 0
    centroids = before.copy()
    centroids[is_used] = sums[is_used] / masses[is_used, None]
    return centroids, is_used


def farthest(points: Points, weights: NDArray[np.float64], centroids: Points, n: int) -> Points:
    """At most n points (n, d), each the one whose error counts most once those before it are in.

    Fewer where no point is left that is not a centroid.
    """
    distances = nearest_scaled(points, centroids)[1]
    found: list[int] = []
    while len(found) < n:
        place = int(np.argmax(weights * distances))
        if distances[place] == 0:
            break
        found.append(place)
        approach(points, points[place], distances)
    return points[found]


def safe_shift(*points: Points) -> int:
    """Power of two that points are to be multiplied by, so that their squares fit float32."""
    largest = max(float(np.abs(held).max()) for held in points)
    if largest == 0 or 1 / SAFE <= largest <= SAFE:
        return 0
    return 1 - int(np.frexp(largest)[1])


def check_points(points: ArrayLike, name: str = "points") -> Points:
    """(N, d) float32; ValueError unless there is at least one, and all are finite."""
    held: NDArray[Any] = np.asarray(points)
    if held.ndim != 2 or held.size == 0 or held.dtype.kind != "f":
        raise ValueError(
            f"{name} must be floats of shape (N, d), at least one, got {held.dtype} of shape "
            f"{held.shape}; reshape or cast them"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        held = np.ascontiguousarray(held, np.float32)
    if not np.isfinite(held).all():
        row, column = np.argwhere(~np.isfinite(held))[0]
        raise ValueError(
            f"{name} must be finite, got {held[row, column]} in row {row}, column {column}; leave "
            "it out"
        )
    return held


def check_weights(weights: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """(n,) float64, the largest 1; ValueError unless they are finite, >= 0, and one is above 0."""
    if weights is None:
        return np.ones(n)
    held = np.asarray(weights, np.float64)
    if held.shape != (n,):
        raise ValueError(f"weights must be of shape ({n},), got {held.shape}; give each value one")
    if not (np.isfinite(held).all() and held.min() >= 0 and held.max() > 0):
        raise ValueError(
            f"weights must be finite and >= 0, and one above 0, got {held.min()}..{held.max()}; "
            "leave them out for equal ones"
        )
    shares: NDArray[np.float64] = held / held.max()
    return shares
