"""``ngrammix bench gptq``: seconds and errors of GPTQ beside the published algorithm in torch."""

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers import published_gptq
from eval.bench.rounds import Rounds, in_own_process, progress, race
from quant.base.config import QuantizedTensor
from quant.numerics.hessian import Hessian
from quant.quantizers.gptq import gptq
from quant.quantizers.scalar import rtn

Matrix = NDArray[np.float32]

CLIPS = {6: 12.85, 4: 2.5}  # standard deviations that the levels reach, by bits
CASES = [(bits, act_order) for bits in CLIPS for act_order in (True, False)]


def measure(arguments: argparse.Namespace) -> Figures:
    """Figures of each layer, measured in a process whose libraries have one thread."""
    shapes = [parse_shape(shape) for shape in arguments.shapes]
    cases = in_own_process(measure_layers, shapes, arguments.rows, arguments.runs)
    return {"calibration_rows": arguments.rows, "threads": 1, "layers": cases}


def parse_shape(text: str) -> tuple[int, int]:
    """(R, C) of "RxC"."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(
            f"--shapes must be outputs by inputs as in 2048x512, got {text!r}; correct it"
        )
    return int(parts[0]), int(parts[1])


def measure_layers(shapes: list[tuple[int, int]], n_rows: int, runs: int) -> list[Figures]:
    """Figures of each shape, with and without act-order, at 6 and 4 bits."""
    torch.set_num_threads(1)
    layers: list[Figures] = []
    for shape in progress(shapes, "layers"):
        weight, inputs = make_layer(shape, n_rows)
        hessian = make_hessian(inputs)
        plain = partial(published_gptq.hessian_of, torch.from_numpy(inputs))
        rounds = race({"ours": partial(make_hessian, inputs), "plain": plain}, runs)
        cases = [measure_case(weight, hessian.matrix(), *case, runs) for case in CASES]
        sizes = {"rows": shape[0], "columns": shape[1]}
        layers.append(sizes | {"hessian": times(rounds), "cases": cases})
    return layers


def measure_case(
    weight: Matrix, hessian: NDArray[np.float64], bits: int, act_order: bool, runs: int
) -> Figures:
    """Seconds from weight and Hessian to the dequantized weight, and the errors."""
    clip = f"sd:{CLIPS[bits]}"
    tensors = torch.from_numpy(weight), torch.from_numpy(hessian).float()

    def quantized() -> QuantizedTensor:
        return gptq(
            weight, hessian, bits=bits, clip=clip, act_order=act_order, damp=published_gptq.DAMP
        )

    def ours() -> Matrix:
        return quantized().matrix()

    scales = torch.from_numpy(quantized().arrays["scales"]).flatten()  # the grid is not compared

    def plain() -> Matrix:
        decoded: Matrix = published_gptq.quantize(*tensors, bits, scales, act_order).numpy()
        return decoded

    def error(decoded: Matrix) -> float:
        return cost(weight - decoded.astype(np.float64), hessian) / cost(weight, hessian)

    return {
        "bits": bits, "clip": clip, "act_order": act_order,
        **times(race({"ours": ours, "plain": plain}, runs)),
        "error_rtn": error(rtn(weight, bits=bits, clip=clip).matrix()),
        "error_ours": error(ours()), "error_plain": error(plain()),
    }  # fmt: skip


def times(rounds: Rounds) -> Figures:
    """Median seconds of both, and the median of their ratios."""
    seconds = {f"seconds_{way}": rounds.median(way) for way in ("ours", "plain")}
    return seconds | {"ratio": rounds.ratio("ours", "plain")}


def make_hessian(inputs: Matrix) -> Hessian:
    """Hessian of inputs (N, C)."""
    hessian = Hessian(inputs.shape[1])
    hessian.add(inputs)
    return hessian


def make_layer(shape: tuple[int, int], n_rows: int) -> tuple[Matrix, Matrix]:
    """(weight (R, C), inputs (N, C)): rows of different norms, correlated columns."""
    rng = np.random.default_rng(0)
    rows, columns = shape
    weight = rng.standard_normal(shape) * np.exp(0.3 * rng.standard_normal((rows, 1)))
    mix = rng.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = rng.standard_normal((n_rows, columns)) @ (mix + np.eye(columns))
    inputs *= np.exp(rng.standard_normal(columns))
    return weight.astype(np.float32), inputs.astype(np.float32)


def cost(errors: NDArray[Any], hessian: NDArray[np.float64]) -> float:
    """``tr(E H Eᵀ)``."""
    return float(np.vdot(errors @ hessian, errors))


def rows_of_layers(figures: Figures) -> list[Figures]:
    """A row for the Hessian of each layer, and for each case."""
    rows: list[Figures] = []
    for layer in figures["layers"]:
        name = {"layer": f"{layer['rows']}x{layer['columns']}"}
        rows.append(name | {"act_order": "the Hessian"} | layer["hessian"])
        for case in layer["cases"]:
            rows.append(name | case | {"act_order": "yes" if case["act_order"] else "no"})
    for row in rows:
        row |= {f"ms_{way}": 1e3 * row[f"seconds_{way}"] for way in ("ours", "plain")}
    return rows


BENCH = Bench(
    options=OPTIONS["gptq"],
    measure=measure,
    report=(
        "One thread. Plain: the algorithm as published, in torch, float32. Errors are tr(E H Eᵀ), "
        "relative to that of the whole weight.",
        Table(rows_of_layers, {
            "layer": "{layer}", "act-order": "{act_order}", "bits": "{bits:d}",
            "ours": "{ms_ours:.1f} ms", "plain": "{ms_plain:.1f} ms", "ratio": "{ratio:.2f}",
            "RTN error": "{error_rtn:.3e}", "our error": "{error_ours:.3e}",
            "plain error": "{error_plain:.3e}",
        }),
    ),
)  # fmt: skip
