"""``ngrammix bench device``: what mixing adds to a model on a GPU, and to reading its logits."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers.random_gpt import RandomGPT, Shape
from eval.bench.rounds import race
from eval.bench.stream import load_tokens
from eval.models.device import default_device, read_device
from eval.scoring.score import warm_up
from ngrammix.logits import read_logits
from ngrammix.mixer import Mixer

N_HINTS = 4  # tokens of a position whose logits are looked up beside the target's
CONTEXT = 1024
MODELS = {
    "11 M": Shape(vocab_size=1024, context=CONTEXT, layers=6, width=384, heads=6),
    "124 M": Shape(vocab_size=50_304, context=CONTEXT, layers=12, width=768, heads=12),
}


def measure(arguments: argparse.Namespace) -> Figures:
    """Rows a second that are read, and tokens a second of the models alone and mixed."""
    device = read_device(arguments.device or default_device())
    warm_up()
    reading = [measure_reading(v, arguments.rows, device, arguments.runs) for v in arguments.vocab]
    models = [measure_model(name, MODELS[name], arguments, device) for name in arguments.models]
    return {"hardware": describe(device), "reading": reading, "mixing": models}


def measure_reading(vocab_size: int, n_rows: int, device: str, runs: int) -> Figures:
    """Rows a second of bfloat16 logits: loss of torch, `read_logits`, and after a copy."""
    rng = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(n_rows, vocab_size, device=device, generator=generator).bfloat16()
    targets, hints = (
        rng.integers(0, vocab_size, n_rows),
        rng.integers(0, vocab_size, (n_rows, N_HINTS)),
    )
    on_device, positions = torch.from_numpy(targets).to(device), np.arange(n_rows)
    rounds = race(
        {
            "cross_entropy": lambda: F.cross_entropy(
                logits.float(), on_device, reduction="none"
            ).cpu(),
            "read": lambda: read_logits(logits, targets, positions).lookup(hints),
            "copied_to_the_host": lambda: read_logits(logits.cpu(), targets, positions).lookup(
                hints
            ),
        },
        runs,
        f"V = {vocab_size}",
    )
    rates = {f"rows_per_second_{way}": rate for way, rate in rounds.rates(n_rows).items()}
    return {"vocab_size": vocab_size, "ratio": rounds.ratio("cross_entropy", "read"), **rates}


def measure_model(name: str, shape: Shape, arguments: argparse.Namespace, device: str) -> Figures:
    """Tokens a second of one model in bfloat16: its losses alone, with the mixer, by `score`."""
    network = RandomGPT(shape).to(device, torch.bfloat16).eval()
    _, stream, _ = load_tokens(None)
    n_windows = arguments.windows
    tokens = np.resize(stream, n_windows * CONTEXT + 1) % shape.vocab_size
    inputs = torch.from_numpy(tokens[:-1].reshape(n_windows, CONTEXT)).to(device)
    targets = torch.from_numpy(tokens[1:].reshape(n_windows, CONTEXT)).to(device)

    def walk(loss: Callable[..., Any]) -> float:
        total = torch.zeros((), device=device, dtype=torch.float64)
        with torch.inference_mode():
            for start in range(0, n_windows, arguments.batch):
                x, y = (ids[start : start + arguments.batch] for ids in (inputs, targets))
                logits = network(x).flatten(0, 1)
                total += loss(logits, y.flatten(), reduction="sum").double()
        return float(total)

    ways = {
        "alone": lambda: walk(
            lambda z, y, reduction: F.cross_entropy(z.float(), y, reduction=reduction)
        ),
        "mixer": lambda: walk(Mixer(vocab_size=shape.vocab_size).cross_entropy),
    }
    rounds = race(ways, arguments.runs, name)
    n = n_windows * CONTEXT
    return {
        "model": name,
        "parameters": sum(p.numel() for p in network.parameters()),
        "vocab_size": shape.vocab_size,
        "tokens": n,
        **{f"tokens_per_second_{way}": rate for way, rate in rounds.rates(n).items()},
        "nanoseconds_added": 1e9 * (rounds.median("mixer") - rounds.median("alone")) / n,
        "added_percent": 100 * (rounds.ratio("mixer", "alone") - 1),
    }


def describe(device: str) -> str:
    """The name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


BENCH = Bench(
    options=OPTIONS["device"],
    measure=measure,
    report=(
        "{hardware}; bfloat16 weights and logits; models of random weights, windows of 1,024 "
        "tokens",
        Table("reading", {
            "V": "{vocab_size:,}",
            "cross_entropy, rows/s": "{rows_per_second_cross_entropy:,.0f}",
            "read": "{rows_per_second_read:,.0f}",
            "copied, then read": "{rows_per_second_copied_to_the_host:,.0f}",
            "read is": "{ratio:.2f} x",
        }),
        Table("mixing", {
            "model": "{model}", "V": "{vocab_size:,}",
            "alone, tokens/s": "{tokens_per_second_alone:,.0f}",
            "with the mixer": "{tokens_per_second_mixer:,.0f}",
            "added": "{added_percent:+.1f} %", "ns a token": "{nanoseconds_added:,.0f}",
        }),
    ),
)  # fmt: skip
