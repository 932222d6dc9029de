"""Distances of points and centroids, vectorized over points, which is fast in few dimensions too.

Squared distances are sums of squared differences in float32, so that a point equal to a centroid
has distance 0, which the usual |x|² - 2 x·c + |c|² does not give, and no result depends on the
other points.
"""

import numpy as np

from quant.kernels.jit import jit

LANES = 64  # points at a time; their distances stay in the first-level cache


@jit(fastmath={"contract", "nnan", "nsz"})  # loops with a choice run in vectors; no input is NaN
def assign(points, table, codes, distances):
    """Write the index of the nearest centroid of each point and its squared distance.

    Ties go to the first. points (N, d) and table (d, K) float32, one centroid a column; codes (N,)
    int64 and distances (N,) float32 are overwritten.
    """
    n_points, n_dims = points.shape
    block = np.empty((n_dims, LANES), np.float32)
    total, least = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    nearest = np.empty(LANES, np.int32)
    for start in range(0, n_points, LANES):
        n = min(LANES, n_points - start)
        for p in range(LANES):  # beyond the end, repeat the last point
            for j in range(n_dims):
                block[j, p] = points[start + min(p, n - 1), j]
        least[:] = np.inf
        nearest[:] = 0
        for c in range(table.shape[1]):
            total[:] = 0
            j = 0
            while j + 4 <= n_dims:  # four dimensions at once load the totals less often
                a, b, d, e = table[j, c], table[j + 1, c], table[j + 2, c], table[j + 3, c]
                for p in range(LANES):
                    w, x = block[j, p] - a, block[j + 1, p] - b
                    y, z = block[j + 2, p] - d, block[j + 3, p] - e
                    total[p] += (w * w + x * x) + (y * y + z * z)
                j += 4
            while j < n_dims:
                a = table[j, c]
                for p in range(LANES):
                    w = block[j, p] - a
                    total[p] += w * w
                j += 1
            for p in range(LANES):
                is_nearer = total[p] < least[p]
                least[p] = total[p] if is_nearer else least[p]
                nearest[p] = np.int32(c) if is_nearer else nearest[p]
        for p in range(n):
            codes[start + p] = nearest[p]
            distances[start + p] = least[p]


@jit(fastmath={"contract", "nnan", "nsz"})
def lower_distances(points, centroid, distances):
    """Lower `distances` (N,) of points (N, d) by one more centroid (d,); all float32."""
    n_points, n_dims = points.shape
    for i in range(n_points):
        total = np.float32(0)
        for j in range(n_dims):
            w = points[i, j] - centroid[j]
            total += w * w
        distances[i] = min(distances[i], total)


@jit
def accumulate(points, weights, codes, sums, masses):
    """Add each weighted point to `sums` (K, d) and its weight to `masses` (K,), float64.

    points (N, d) float32; weights (N,) float64; codes (N,) int64.
    """
    n_points, n_dims = points.shape
    for i in range(n_points):
        c, weight = codes[i], weights[i]
        masses[c] += weight
        for j in range(n_dims):
            sums[c, j] += weight * np.float64(points[i, j])
