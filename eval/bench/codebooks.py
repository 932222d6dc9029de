"""``ngrammix bench codebooks``: error and speed of codebooks, beside kmeans1d and faiss."""

import argparse
from functools import partial
from importlib.util import find_spec
from statistics import median
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import CODEBOOK_COLUMNS, OPTIONS
from eval.bench.peers.codebook_libraries import PEERS
from eval.bench.rounds import in_own_process, progress, race
from quant.numerics.kmeans import kmeans, nearest
from quant.numerics.lloyd_max_1d import lloyd_max

SIZES = (16, 64, 256)
DIM, K, ITERATIONS = 4, 256, 25
MAX_ERROR, MAX_SECONDS = 1.02, 2.0  # in those of faiss
METHODS = ("exact", "iterative")


def measure(arguments: argparse.Namespace) -> Figures:
    """Errors and seconds of codebooks of numbers, and of one codebook of vectors."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(5, arguments.values)
    weight = rng.standard_normal((arguments.rows, CODEBOOK_COLUMNS), np.float32)
    return {
        "numbers": measure_numbers(values, arguments.runs),
        "vectors": measure_vectors(weight, arguments.runs),
        "missing": ", ".join(name for name in PEERS if find_spec(name) is None) or None,
    }


def measure_numbers(values: NDArray[np.float64], runs: int) -> list[Figures]:
    """Mean squared error and median seconds of each method, by size of the codebook."""
    rows = []
    for k in progress(SIZES, "numbers"):
        fits = {method: partial(lloyd_max, values, k, method=method) for method in METHODS}
        rounds = race(fits, runs, clock=process_time)
        row: Figures = {"k": k}
        for method, fit in fits.items():
            row[f"mse_{method}"] = mean_error(values, fit())
            row[f"seconds_{method}"] = rounds.median(method)
        seconds, centroids = peer("kmeans1d", values, runs, k)
        row["mse_kmeans1d"] = None if seconds is None else mean_error(values, centroids)
        rows.append(row | {"seconds_kmeans1d": seconds})
    return rows


def mean_error(values: NDArray[np.float64], centroids: NDArray[np.float64]) -> float:
    """Mean squared distance of each number to its nearest value."""
    levels = np.sort(centroids)
    codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    return float(np.mean((values - levels[codes]) ** 2))


def measure_vectors(weight: NDArray[np.float32], runs: int) -> Figures:
    """Error and seconds of k-means for one shared codebook, and those of faiss.

    Both fit the same vectors, 256 a centroid at most.
    """
    points = weight.reshape(-1, DIM)
    chosen = np.random.default_rng(0).permutation(len(points))[: 256 * K]
    points = np.ascontiguousarray(points[chosen])
    fit = partial(kmeans, points, K, iterations=ITERATIONS)
    seconds = race({"kmeans": fit}, runs, clock=process_time).median("kmeans")
    error = relative_error(points, fit())
    peer_seconds, centroids = peer("faiss", points, runs, K, ITERATIONS)
    figures: Figures = {
        "vectors": len(points), "dim": DIM, "k": K, "iterations": ITERATIONS,
        "relative_mse": error, "seconds": seconds,
        "relative_mse_faiss": None, "seconds_faiss": peer_seconds,
    }  # fmt: skip
    if peer_seconds is None:
        return figures
    peer_error = relative_error(points, centroids)
    error_ratio, seconds_ratio = error / peer_error, seconds / peer_seconds
    return figures | {
        "relative_mse_faiss": peer_error,
        "error_ratio": error_ratio,
        "seconds_ratio": seconds_ratio,
        "reaches": error_ratio <= MAX_ERROR and seconds_ratio <= MAX_SECONDS,
    }


def relative_error(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """Squared distance to the nearest centroids, as a share of the squared lengths."""
    gaps = points - centroids[nearest(points, centroids)]
    return float(np.sum(np.square(gaps, dtype=np.float64)) / np.sum(points.astype(float) ** 2))


def peer(name: str, *arguments: Any) -> tuple[float | None, Any]:
    """(median seconds, centroids) of a peer; (None, None) where it is not installed."""
    if find_spec(name) is None:
        return None, None
    try:
        seconds, centroids = in_own_process(PEERS[name], *arguments)
    except (ImportError, RuntimeError) as error:  # a process that died is a RuntimeError
        raise ValueError(
            f"{name} must run in a process of its own, got {error!r}; reinstall or remove it"
        ) from error
    return median(seconds), centroids


BENCH = Bench(
    options=OPTIONS["codebooks"],
    measure=measure,
    report=(
        "Numbers of Student's t with 5 degrees of freedom: mean squared error, and seconds of "
        "processor time on one thread",
        Table("numbers", {
            "values": "{k:d}",
            "exact error": "{mse_exact:.6e}", "exact s": "{seconds_exact:.3f}",
            "iterative error": "{mse_iterative:.6e}", "iterative s": "{seconds_iterative:.3f}",
            "kmeans1d error": "{mse_kmeans1d:.6e}", "kmeans1d s": "{seconds_kmeans1d:.3f}",
        }),
        "{vectors[vectors]:,} vectors of {vectors[dim]} normal weights, one codebook of "
        "{vectors[k]}, {vectors[iterations]} iterations; the limit is "
        f"{MAX_ERROR} x the error of faiss in {MAX_SECONDS:g} x the time",
        Table(lambda figures: [figures["vectors"]], {
            "relative error": "{relative_mse:.5f}", "s": "{seconds:.3f}",
            "faiss error": "{relative_mse_faiss:.5f}", "faiss s": "{seconds_faiss:.3f}",
            "error ratio": "{error_ratio:.4f} x", "time ratio": "{seconds_ratio:.2f} x",
        }),
        "not installed: {missing:s}",
    ),
)  # fmt: skip
