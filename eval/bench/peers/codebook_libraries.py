"""The peers kmeans1d and faiss: the codebooks that they fit, and their seconds.

Each function runs in a process of its own: faiss and torch cannot load their OpenMP into one.
"""

from collections.abc import Callable
from time import process_time

import numpy as np
from numpy.typing import NDArray

Fit = tuple[list[float], NDArray[np.float64]]


def kmeans1d(values: NDArray[np.float64], runs: int, k: int) -> Fit:
    """(seconds of each run, the k values) of an optimal codebook of numbers."""
    import kmeans1d

    seconds = []
    for _ in range(runs):
        started = process_time()
        clusters = kmeans1d.cluster(values, k)
        seconds.append(process_time() - started)
    return seconds, np.array(clusters.centroids)


def faiss(points: NDArray[np.float32], runs: int, k: int, iterations: int) -> Fit:
    """(seconds of each run, centroids (k, D)) of k-means on points (N, D)."""
    import faiss

    faiss.omp_set_num_threads(1)
    seconds = []
    for _ in range(runs):
        clusters = faiss.Kmeans(
            points.shape[1], k, niter=iterations, max_points_per_centroid=len(points)
        )
        started = process_time()
        clusters.train(points)
        seconds.append(process_time() - started)
    return seconds, clusters.centroids


PEERS: dict[str, Callable[..., Fit]] = {"kmeans1d": kmeans1d, "faiss": faiss}
