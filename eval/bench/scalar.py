"""``ngrammix bench quant``: weights to codes and back, beside numpy and torch."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver, timed
from eval.tables import make_folder
from quant.numerics.grid import UniformGrid
from quant.quantizers.scalar import ScalarConfig

Ways = dict[str, Callable[[], object]]

GROUP = 128
FORMATS = {
    "int6 per row": ScalarConfig(bits=6),
    "int8 per row": ScalarConfig(bits=8),
    f"int4 per {GROUP}": ScalarConfig(bits=4, per="group", group_size=GROUP),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument("--rows", type=int, default=4096, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--columns", type=int, default=4096, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "rows", "columns", "runs")
    if arguments.columns % GROUP:
        raise ValueError(
            f"--columns must be a multiple of {GROUP}, got {arguments.columns}; that many share a "
            "step"
        )
    make_folder(arguments.out)
    weight = np.random.default_rng(0).standard_normal(
        (arguments.rows, arguments.columns), np.float32
    )
    result = {"rows": arguments.rows, "columns": arguments.columns, "runs": arguments.runs}
    with one_thread():
        found = {"scalar": scalar(weight, arguments.runs)}
    deliver(result | found, arguments, "quant.json", table)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, as numpy and the kernels do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def scalar(weight: NDArray[np.float32], runs: int) -> list[dict[str, Any]]:
    """Weights per second of each way to encode and to decode, a row for each format."""
    rows = []
    for name, config in tqdm(FORMATS.items(), desc="formats", delay=2, disable=None):
        ways = encoders(weight, config), decoders(weight, config)
        encode, decode = (speeds(its, weight.size, runs) for its in ways)
        rows.append({"format": name, "encode": encode, "decode": decode})
    return rows


def encoders(weight: NDArray[np.float32], config: ScalarConfig) -> Ways:
    """What turns the weight into its codes; all but "fit too" have the steps."""
    import torch

    grid: UniformGrid = config.fit(weight)
    shape, steps = blocks(weight, config), grid.scales[..., None]
    reused = np.empty(weight.shape, np.int8)
    array, tensor = weight.reshape(shape), torch.from_numpy(weight).view(shape)
    torch_steps = torch.from_numpy(steps)
    least, most = grid.lowest, grid.highest

    def with_numpy() -> NDArray[np.int8]:
        codes = array / steps
        np.rint(codes, out=codes)
        return np.clip(codes, least, most, out=codes).astype(np.int8)

    return {
        "ours": lambda: grid.encode(weight),
        "ours, reused": lambda: grid.encode(weight, reused),
        "ours, fit too": lambda: config.encode(weight),
        "numpy": with_numpy,
        "torch": lambda: (tensor / torch_steps).round_().clamp_(least, most).to(torch.int8),
    }


def decoders(weight: NDArray[np.float32], config: ScalarConfig) -> Ways:
    """What turns the codes into weights again: into memory of its own, or reused."""
    import torch

    q = config.encode(weight)
    grid = config.grid(q.arrays, weight.shape)
    shape, steps = blocks(weight, config), grid.scales[..., None]
    reused = np.empty(weight.shape, np.float32)
    tensor, torch_steps = torch.from_numpy(q.codes).view(shape), torch.from_numpy(steps)
    return {
        "ours": lambda: grid.decode(q.codes),
        "ours, reused": lambda: grid.decode(q.codes, reused),
        "numpy": lambda: q.codes.reshape(shape) * steps,
        "torch": lambda: tensor.float().mul_(torch_steps),
    }


def blocks(weight: NDArray[np.float32], config: ScalarConfig) -> tuple[int, int, int]:
    """Shape (R, G, columns that share a step) that the peers see the weight in."""
    return len(weight), -1, config.columns_per_scale(weight.shape[1])


def speeds(ways: Ways, n_weights: int, runs: int) -> dict[str, float]:
    """Weights per second of each way: medians of `runs`, the ways in turn, after one unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(runs + 1):
        for name, way in ways.items():
            its = timed(way)
            if round_ > 0:
                seconds[name].append(its)
    return {name: n_weights / median(found) for name, found in seconds.items()}


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"{result['rows']} x {result['columns']} weights, one thread, medians of "
        f"{result['runs']}; million weights/s",
    ]
    ways = list(result["scalar"][0]["encode"])
    for action in ("encode", "decode"):
        lines += ["", f"{action:16}" + "".join(f"{way:>15}" for way in ways)]
        for row in result["scalar"]:
            its = row[action]
            cells = (f"{its[way] / 1e6:>15,.0f}" if way in its else f"{'':15}" for way in ways)
            lines.append(f"{row['format']:16}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)
