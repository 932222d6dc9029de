"""``ngrammix bench scalar``: weights to integer codes and back, beside numpy and torch."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import GROUP, OPTIONS
from eval.bench.rounds import progress, race
from quant.numerics.grid import UniformGrid
from quant.quantizers.scalar import ScalarConfig

Ways = dict[str, Callable[[], object]]

FORMATS = {
    "int6 per row": ScalarConfig(bits=6),
    "int8 per row": ScalarConfig(bits=8),
    f"int4 per {GROUP}": ScalarConfig(bits=4, per="group", group_size=GROUP),
}


def measure(arguments: argparse.Namespace) -> Figures:
    """Weights per second of each way to encode and to decode, a row for each format."""
    if arguments.columns % GROUP:
        raise ValueError(
            f"--columns must be a multiple of {GROUP}, got {arguments.columns}; that many share a "
            "scale"
        )
    shape = arguments.rows, arguments.columns
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for name, config in progress(FORMATS.items(), "formats"):
            row: Figures = {"format": name}
            for action, make in (("encode", encoders), ("decode", decoders)):
                row[action] = race(make(weight, config), arguments.runs).rates(weight.size)
            rows.append(row)
        return {"scalar": rows}
    finally:
        torch.set_num_threads(n_threads)


def encoders(weight: NDArray[np.float32], config: ScalarConfig) -> Ways:
    """Ways from the weight to its codes; all but "fit too" know the scales."""
    grid: UniformGrid = config.fit(weight)
    shape, scales = grouped_shape(weight, config), grid.scales[..., None]
    reused = np.empty(weight.shape, np.int8)
    array, tensor = weight.reshape(shape), torch.from_numpy(weight).view(shape)
    torch_scales = torch.from_numpy(scales)
    lowest, highest = grid.lowest, grid.highest

    def with_numpy() -> NDArray[np.int8]:
        codes = array / scales
        np.rint(codes, out=codes)
        clipped: NDArray[np.int8] = np.clip(codes, lowest, highest, out=codes).astype(np.int8)
        return clipped

    return {
        "ours": lambda: grid.encode(weight),
        "ours, reused": lambda: grid.encode(weight, reused),
        "ours, fit too": lambda: config.encode(weight),
        "numpy": with_numpy,
        "torch": lambda: (tensor / torch_scales).round_().clamp_(lowest, highest).to(torch.int8),
    }


def decoders(weight: NDArray[np.float32], config: ScalarConfig) -> Ways:
    """Ways from the codes to weights, into new memory or reused memory."""
    q = config.encode(weight)
    grid = config.grid(q.arrays, weight.shape)
    shape, scales = grouped_shape(weight, config), grid.scales[..., None]
    reused = np.empty(weight.shape, np.float32)
    tensor, torch_scales = torch.from_numpy(q.codes).view(shape), torch.from_numpy(scales)
    return {
        "ours": lambda: grid.decode(q.codes),
        "ours, reused": lambda: grid.decode(q.codes, reused),
        "numpy": lambda: q.codes.reshape(shape) * scales,
        "torch": lambda: tensor.float().mul_(torch_scales),
    }


def grouped_shape(weight: NDArray[Any], config: ScalarConfig) -> tuple[int, int, int]:
    """(R, G, columns that share a scale): the shape of the weight for numpy and torch."""
    return len(weight), -1, config.columns_per_scale(weight.shape[1])


def table(action: str, *ways: str) -> Table:
    """Table of the speeds of one direction, a row for each format."""
    return Table(
        lambda figures: [{"format": row["format"], **row[action]} for row in figures["scalar"]],
        {action: "{format}", **{way: f"{{{way}:,.0f}}" for way in ways}},
    )


BENCH = Bench(
    options=OPTIONS["scalar"],
    measure=measure,
    report=(
        "Weights a second on one thread",
        table("encode", "ours", "ours, reused", "ours, fit too", "numpy", "torch"),
        table("decode", "ours", "ours, reused", "numpy", "torch"),
    ),
)
