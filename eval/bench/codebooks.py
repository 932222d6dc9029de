"""``ngrammix bench codebooks``: error and speed of codebooks, beside kmeans1d and faiss."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver
from eval.tables import align, make_folder
from quant.numerics.kmeans import kmeans, nearest
from quant.numerics.lloyd_max_1d import lloyd_max

SIZES = (16, 64, 256)
DIM, K, ITERATIONS = 4, 256, 25
COLUMNS = 256
MOST_ERROR, MOST_SECONDS = 1.02, 2.0  # of what faiss needs
WAYS = ("exact", "iterative", "kmeans1d")

# Peers run in a process of their own, on one thread: faiss and torch each bring an OpenMP, and
# do not bear one another's. Each prints the seconds of its runs, and what it has found.
KMEANS1D = """
import json, sys, time
import kmeans1d
import numpy as np
values, runs, k = np.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seconds = []
for _ in range(runs):
    started = time.process_time()
    found = kmeans1d.cluster(values, k)
    seconds.append(time.process_time() - started)
print(json.dumps({"seconds": seconds, "centroids": found.centroids}))
"""
FAISS = """
import json, sys, time
import faiss
import numpy as np
points, runs, k, iterations = np.load(sys.argv[1]), *map(int, sys.argv[2:5])
faiss.omp_set_num_threads(1)
seconds = []
for _ in range(runs):
    found = faiss.Kmeans(points.shape[1], k, niter=iterations, max_points_per_centroid=len(points))
    started = time.process_time()
    found.train(points)
    seconds.append(time.process_time() - started)
print(json.dumps({"seconds": seconds, "centroids": found.centroids.tolist()}))
"""
SCRIPTS = {"kmeans1d": KMEANS1D, "faiss": FAISS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--values",
        type=int,
        default=65_536,
        metavar="N",
        help="numbers, Student's t with 5 degrees of freedom (default: %(default)s)",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=4096,
        metavar="N",
        help=f"rows of {COLUMNS} normal weights (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "values", "rows", "runs")
    make_folder(arguments.out)
    rng = np.random.default_rng(0)
    values = rng.standard_t(5, arguments.values)
    weight = rng.standard_normal((arguments.rows, COLUMNS), np.float32)
    result = {
        "values": len(values),
        "runs": arguments.runs,
        "numbers": measure_numbers(values, arguments.runs),
        "vectors": measure_vectors(weight, arguments.runs),
    }
    deliver(result, arguments, "codebooks.json", table)


def measure_numbers(values: NDArray[np.float64], runs: int) -> list[dict[str, Any]]:
    """Mean squared error and median seconds of each way, by size of the codebook."""
    lloyd_max(values[:100], 4)
    rows = []
    for k in tqdm(SIZES, desc="numbers", delay=2, disable=None):
        row: dict[str, Any] = {"k": k}
        for method in ("exact", "iterative"):
            row |= figures(method, partial(lloyd_max, values, k, method=method), values, runs)
        found = peer("kmeans1d", values, runs, k)
        row |= {
            "mse_kmeans1d": found and mean_error(values, np.array(found["centroids"])),
            "seconds_kmeans1d": found and median(found["seconds"]),
        }
        rows.append(row)
    return rows


def figures(
    way: str, fit: Callable[[], NDArray[Any]], values: NDArray[np.float64], runs: int
) -> dict[str, float]:
    """Error and seconds of one way."""
    seconds = median(timed(fit) for _ in range(runs))
    return {f"mse_{way}": mean_error(values, fit()), f"seconds_{way}": seconds}


def timed(work: Callable[[], object]) -> float:
    """Seconds of the processor that the work takes."""
    started = process_time()
    work()
    return process_time() - started


def mean_error(values: NDArray[np.float64], centroids: NDArray[np.float64]) -> float:
    """Mean squared distance of each number to its nearest value."""
    levels = np.sort(centroids)
    codes = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
    return float(np.mean((values - levels[codes]) ** 2))


def measure_vectors(weight: NDArray[np.float32], runs: int) -> dict[str, Any]:
    """Error and seconds of k-means for one shared codebook, ours and that of faiss.

    Both fit the same vectors, 256 a centroid at most.
    """
    points = weight.reshape(-1, DIM)
    chosen = np.random.default_rng(0).permutation(len(points))[: 256 * K]
    points = np.ascontiguousarray(points[chosen])
    kmeans(points[:100], 4)
    fit = partial(kmeans, points, K, iterations=ITERATIONS)
    seconds = median(timed(fit) for _ in range(runs))
    result: dict[str, Any] = {
        "vectors": len(points), "dim": DIM, "k": K, "iterations": ITERATIONS,
        "relative_mse": relative_error(points, fit()), "seconds": seconds,
    }  # fmt: skip
    found = peer("faiss", points, runs, K, ITERATIONS)
    if found is None:
        return result | {"relative_mse_faiss": None, "seconds_faiss": None}
    theirs = relative_error(points, np.array(found["centroids"], np.float32))
    errors, times = result["relative_mse"] / theirs, seconds / median(found["seconds"])
    return result | {
        "relative_mse_faiss": theirs,
        "seconds_faiss": median(found["seconds"]),
        "error_ratio": errors,
        "seconds_ratio": times,
        "reaches": bool(errors <= MOST_ERROR and times <= MOST_SECONDS),
    }


def relative_error(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """Squared distance to the nearest centroids, as a share of the squared lengths."""
    gaps = points - centroids[nearest(points, centroids)]
    return float(np.sum(np.square(gaps, dtype=np.float64)) / np.sum(points.astype(float) ** 2))


def peer(name: str, data: NDArray[Any], *numbers: int) -> dict[str, Any] | None:
    """What a peer found, and the seconds of its runs; None where it is not installed."""
    if find_spec(name) is None:
        return None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "data.npy"
        np.save(path, data)
        done = subprocess.run(
            [sys.executable, "-c", SCRIPTS[name], str(path), *map(str, numbers)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise ValueError(
            f"{name} must run in a process of its own, got {done.stderr.strip()!r}; mend its "
            "installation, or remove it"
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"{result['values']:,} numbers: mean squared error, and seconds of the processor (medians "
        f"of {result['runs']}, one thread)",
        "",
    ]
    rows = [("values", *(f"{way} {what}" for way in WAYS for what in ("error", "s")))]
    for row in result["numbers"]:
        shown = [
            text
            for way in WAYS
            for text in (
                show(row[f"mse_{way}"], ".6e"),
                show(row[f"seconds_{way}"], ".3f"),
            )
        ]
        rows.append((str(row["k"]), *shown))
    lines += align(rows, n_left=0)
    its = result["vectors"]
    lines += [
        "",
        f"{its['vectors']:,} vectors of {its['dim']} weights, one codebook of {its['k']}, "
        f"{its['iterations']} iterations",
        "",
    ]
    rows = [("", "relative error", "s")]
    rows.append(("ngrammix", f"{its['relative_mse']:.5f}", f"{its['seconds']:.3f}"))
    theirs = show(its["relative_mse_faiss"], ".5f"), show(its["seconds_faiss"], ".3f")
    rows.append(("faiss", *theirs))
    lines += align(rows, n_left=1)
    if its["seconds_faiss"] is not None:
        lines += [
            "",
            f"asked: at most {MOST_ERROR} x its error in {MOST_SECONDS:g} x its time; it is "
            f"{its['error_ratio']:.4f} x in {its['seconds_ratio']:.2f} x",
        ]
    missing = [name for name in SCRIPTS if find_spec(name) is None]
    if missing:
        lines += ["", f"not installed: {', '.join(missing)}"]
    return "\n".join(lines)


def show(number: float | None, form: str) -> str:
    """The number in this form, or a dash."""
    return "-" if number is None else format(number, form)
