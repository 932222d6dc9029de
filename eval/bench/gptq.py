"""``ngrammix bench gptq``: seconds and errors of GPTQ beside the algorithm as published, in torch.

The measuring is done by a process of its own, because libraries read how many threads they may use
when they are loaded: one.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver, timed
from eval.tables import make_folder
from quant.numerics.hessian import Hessian
from quant.quantizers.gptq import gptq
from quant.quantizers.scalar import rtn

if TYPE_CHECKING:
    import torch

Matrix = NDArray[np.float32]

SHAPES = ("2048x512", "512x512", "512x2048")
CLIPS = {6: 12.85, 4: 2.5}  # standard deviations that the levels of so many bits reach
DAMP = 0.01
BLOCK = 128
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=list(SHAPES),
        metavar="RxC",
        help=f"outputs by inputs of the layers (default: {' '.join(SHAPES)})",
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=4096,
        metavar="N",
        help="calibration rows (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "rows", "runs")
    shapes = [parse_shape(shape) for shape in arguments.shapes]
    make_folder(arguments.out)
    asked = json.dumps([shapes, arguments.rows, arguments.runs])
    done = subprocess.run(
        [sys.executable, "-m", "eval.bench.gptq", asked],
        env=os.environ | dict.fromkeys(ONE_THREAD, "1"),
        stdout=subprocess.PIPE,
        check=True,
    )
    deliver(json.loads(done.stdout), arguments, "gptq.json", table)


def parse_shape(text: str) -> tuple[int, int]:
    """(R, C) of "RxC"."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"--shapes must be outputs by inputs as in 2048x512, got {text!r}; correct it"
        )
    return int(parts[0]), int(parts[1])


def measure(shapes: list[tuple[int, int]], n_rows: int, runs: int) -> dict[str, Any]:
    """Figures of each shape, with and without act-order, at 6 and 4 bits."""
    import torch

    torch.set_num_threads(1)
    layers: list[dict[str, Any]] = []
    cases = [(bits, act_order) for bits in CLIPS for act_order in (True, False)]
    with tqdm(total=len(shapes) * len(cases), desc="cases", delay=2, disable=None) as bar:
        for shape in shapes:
            weight, inputs = make_layer(shape, n_rows)
            hessian = Hessian(shape[1])
            hessian.add(inputs)
            gathering = compare(partial(gather, inputs), partial(gather_plainly, inputs), runs)
            measured = []
            for bits, act_order in cases:
                measured.append(measure_case(weight, hessian, bits, act_order, runs))
                bar.update()
            layer = {"rows": shape[0], "columns": shape[1], "hessian": gathering}
            layers.append(layer | {"cases": measured})
    return {"calibration_rows": n_rows, "runs": runs, "threads": 1, "layers": layers}


def measure_case(
    weight: Matrix, hessian: Hessian, bits: int, act_order: bool, runs: int
) -> dict[str, Any]:
    """Seconds from weight and Hessian to the weight dequantized, and what each way costs."""
    import torch

    clip = f"sd:{CLIPS[bits]}"
    matrix = hessian.matrix()
    tensors = torch.from_numpy(weight), torch.from_numpy(matrix).float()

    def ours() -> Matrix:
        made = gptq(weight, matrix, bits=bits, clip=clip, act_order=act_order, damp=DAMP)
        return made.matrix()

    def plain() -> Matrix:
        made: Matrix = plain_gptq(*tensors, bits, CLIPS[bits], act_order).numpy()
        return made

    def error(made: Matrix) -> float:
        return cost(weight - made.astype(np.float64), matrix) / cost(weight, matrix)

    nearest = rtn(weight, bits=bits, clip=clip).matrix()
    return {
        "bits": bits, "clip": clip, "act_order": act_order, **compare(ours, plain, runs),
        "error_rtn": error(nearest), "error_ours": error(ours()), "error_plain": error(plain()),
    }  # fmt: skip


def make_layer(shape: tuple[int, int], n_rows: int) -> tuple[Matrix, Matrix]:
    """(weight (R, C), inputs (N, C)): rows of unlike size, and columns that go together."""
    rng = np.random.default_rng(0)
    rows, columns = shape
    weight = rng.standard_normal(shape) * np.exp(0.3 * rng.standard_normal((rows, 1)))
    mix = rng.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = rng.standard_normal((n_rows, columns)) @ (mix + np.eye(columns))
    return weight.astype(np.float32), (inputs * np.exp(rng.standard_normal(columns))).astype(
        np.float32
    )


def compare(ours: Any, plain: Any, runs: int) -> dict[str, float]:
    """Median seconds of both, in turns, after one run of each; and ours in theirs."""
    ours(), plain()
    pairs = [(timed(ours), timed(plain)) for _ in range(runs)]
    own, peers = zip(*pairs, strict=True)
    return {
        "seconds_ours": median(own),
        "seconds_plain": median(peers),
        "ratio": median(mine / theirs for mine, theirs in pairs),
    }


def cost(errors: NDArray[Any], hessian: NDArray[np.float64]) -> float:
    """``tr(E H Eᵀ)``."""
    return float(np.vdot(errors @ hessian, errors))


def gather(inputs: Matrix) -> None:
    """The Hessian, as we gather it."""
    Hessian(inputs.shape[1]).add(inputs)


def gather_plainly(inputs: Matrix) -> "torch.Tensor":
    """The Hessian in float32."""
    import torch

    rows = torch.from_numpy(inputs)
    return rows.t() @ rows / len(rows)


def plain_gptq(
    weight: "torch.Tensor", hessian: "torch.Tensor", bits: int, k: float, act_order: bool
) -> "torch.Tensor":
    """The weight dequantized: the algorithm as published, float32, a column at a time."""
    import torch

    most = 2 ** (bits - 1) - 1
    steps = k * weight.std(dim=1, correction=0) / most
    order = torch.arange(weight.shape[1])
    if act_order:
        order = torch.argsort(hessian.diagonal(), descending=True)
    left, damped = weight[:, order].clone(), hessian[order][:, order].clone()
    damped.diagonal().add_(DAMP * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    made = torch.zeros_like(left)
    for start in range(0, weight.shape[1], BLOCK):
        stop = min(start + BLOCK, weight.shape[1])
        block, errors = left[:, start:stop].clone(), torch.zeros(len(left), stop - start)
        factor = upper[start:stop, start:stop]
        for i in range(stop - start):
            column = block[:, i]
            rounded = torch.clamp(torch.round(column / steps), -most, most) * steps
            errors[:, i] = (column - rounded) / factor[i, i]
            made[:, start + i] = rounded
            block[:, i:] -= errors[:, i : i + 1] * factor[i : i + 1, i:]
        left[:, stop:] -= errors @ upper[start:stop, stop:]
    return made[:, torch.argsort(order)]


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"Medians of {result['runs']}, {result['threads']} thread, "
        f"{result['calibration_rows']:,} calibration rows; plain: the algorithm as published, in",
        "torch, float32. Errors are tr(E H Eᵀ) in that of the whole weight.",
        "",
        f"{'layer':>10} {'bits':>4} {'act-order':>9} {'ours':>9} {'plain':>9} {'ratio':>6} "
        f"{'RTN':>9} {'ours':>9} {'plain':>9}",
    ]
    for layer in result["layers"]:
        name = f"{layer['rows']}x{layer['columns']}"
        lines.append(f"{name:>10} {'the Hessian':>14} {timing(layer['hessian'])}")
        for case in layer["cases"]:
            errors = " ".join(f"{case[f'error_{way}']:9.3e}" for way in ("rtn", "ours", "plain"))
            act_order = "yes" if case["act_order"] else "no"
            lines.append(f"{name:>10} {case['bits']:>4} {act_order:>9} {timing(case)} {errors}")
    return "\n".join(lines)


def timing(case: dict[str, float]) -> str:
    """Both times in milliseconds, and the ratio."""
    ours, plain = 1e3 * case["seconds_ours"], 1e3 * case["seconds_plain"]
    return f"{ours:6.1f} ms {plain:6.1f} ms {case['ratio']:6.2f}"


if __name__ == "__main__":
    shapes, n_rows, runs = json.loads(sys.argv[1])
    json.dump(measure([tuple(shape) for shape in shapes], n_rows, runs), sys.stdout)
