"""``ngrammix bench device``: what mixing adds to a model on a GPU, and to reading its logits."""

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers.random_gpt import RandomGPT, Shape
from eval.bench.rounds import race
from eval.bench.stream import load_tokens
from eval.models.device import default_device, read_device
from eval.models.numerics import hardware_of
from eval.scoring.score import warm_up
from ngrammix import device_rows
from ngrammix.logits import read_logits
from ngrammix.mixer import Mixer
from ngrammix.prefetching import prefetch

Batches = Sequence[slice]

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
    return {"hardware": hardware_of(device), "reading": reading, "mixing": models}


def measure_reading(vocab_size: int, n_rows: int, device: str, runs: int) -> Figures:
    """Rows a second of bfloat16 logits: five numbers a row on the device, then all of reading."""
    rng = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(n_rows, vocab_size, device=device, generator=generator).bfloat16()
    targets = rng.integers(0, vocab_size, n_rows)
    hints = rng.integers(0, vocab_size, (n_rows, N_HINTS))
    on_device, positions = torch.from_numpy(targets).to(device), np.arange(n_rows)
    ways: dict[str, Callable[[], object]] = {
        "cross_entropy": lambda: F.cross_entropy(logits.float(), on_device, reduction="none"),
        "five_numbers": lambda: device_rows.read(logits, on_device),
        "five_numbers_by_torch": lambda: device_rows.read_block(logits, on_device),
        "read": lambda: read_logits(logits, targets, positions).lookup(hints),
        "copied": lambda: read_logits(logits.cpu(), targets, positions).lookup(hints),
    }
    rounds = race(
        {name: partial(finished, way, device) for name, way in ways.items()},
        runs,
        f"V = {vocab_size}",
    )
    rates = {f"rows_per_second_{way}": rate for way, rate in rounds.rates(n_rows).items()}
    return {
        "vocab_size": vocab_size,
        "kernel_ratio": rounds.ratio("five_numbers_by_torch", "five_numbers"),
        "copied_ratio": rounds.ratio("copied", "read"),
        **rates,
    }


def finished(way: Callable[[], object], device: str) -> None:
    """Do it, and wait until the device has done it."""
    way()
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure_model(name: str, shape: Shape, arguments: argparse.Namespace, device: str) -> Figures:
    """Tokens a second of one model in bfloat16: its losses alone, and mixed in two ways."""
    network = RandomGPT(shape).to(device, torch.bfloat16).eval()
    _, stream, _ = load_tokens(None)
    n = arguments.windows * CONTEXT
    tokens: Tensor = torch.from_numpy(np.resize(stream, n + 1) % shape.vocab_size)
    inputs = tokens[:-1].view(-1, CONTEXT).to(device)
    targets = tokens[1:].view(-1, CONTEXT)
    batches = [slice(i, i + arguments.batch) for i in range(0, arguments.windows, arguments.batch)]
    make_mixer = partial(Mixer, vocab_size=shape.vocab_size)
    ways: dict[str, Callable[[], float]] = {
        "alone": lambda: alone(network, inputs, targets, batches),
        "mixer": lambda: mixed(network, inputs, targets, batches, make_mixer()),
        "ahead": lambda: mixed_ahead(network, inputs, targets, batches, make_mixer()),
    }
    with torch.inference_mode():
        nats = {way: walk() for way, walk in ways.items()}
        if not math.isclose(nats["mixer"], nats["ahead"], rel_tol=1e-3):
            raise RuntimeError(
                f"both ways must give the same nats, got {nats}; this is a bug of ngrammix: please "
                "report it with the device"
            )
        rounds = race(ways, arguments.runs, name)
    figures: Figures = {
        "model": name, "parameters": sum(p.numel() for p in network.parameters()),
        "vocab_size": shape.vocab_size, "tokens": n, "nats": nats["ahead"],
    }  # fmt: skip
    for way, rate in rounds.rates(n).items():
        figures[f"tokens_per_second_{way}"] = rate
        figures[f"added_percent_{way}"] = 100 * (rounds.ratio(way, "alone") - 1)
    return figures


def alone(network: RandomGPT, inputs: Tensor, targets: Tensor, batches: Batches) -> float:
    """Nats of the model: one number comes back from the device."""
    total = torch.zeros((), device=inputs.device, dtype=torch.float64)
    for batch in batches:
        logits, y = network(inputs[batch]).flatten(0, 1), targets[batch].flatten()
        total += F.cross_entropy(logits.float(), y.to(inputs.device), reduction="sum")
    return float(total)


def mixed(
    network: RandomGPT, inputs: Tensor, targets: Tensor, batches: Batches, mixer: Mixer
) -> float:
    """Nats of the mixture: the device waits while the host mixes."""
    nats = 0.0
    for batch in batches:
        logits, y = network(inputs[batch]).flatten(0, 1), targets[batch].flatten()
        nats += float(mixer.score(logits, y).sum())
    return nats


def mixed_ahead(
    network: RandomGPT, inputs: Tensor, targets: Tensor, batches: Batches, mixer: Mixer
) -> float:
    """Nats of the mixture: the device runs the next batch while the host mixes this one."""
    nats = 0.0
    ids = targets.numpy()
    observed = prefetch(mixer.observe(ids[batch].ravel()) for batch in batches)
    logits = network(inputs[batches[0]])
    for following, seen in zip([*batches[1:], None], observed, strict=True):
        positions = np.arange(seen.position, seen.position + len(seen))
        reader = read_logits(logits.flatten(0, 1), seen.tokens, positions)
        logprobs = reader.lookup(seen.hint_tokens)
        if following is not None:
            logits = network(inputs[following])  # returns at once
        nats += float(mixer.score_observed(seen, logprobs).nats.sum())
    return nats


BENCH = Bench(
    options=OPTIONS["device"],
    measure=measure,
    report=(
        "{hardware}; bfloat16 weights and logits; models of random weights, windows of 1,024 "
        "tokens",
        Table("reading", {
            "V": "{vocab_size:,}",
            "cross_entropy, rows/s": "{rows_per_second_cross_entropy:,.0f}",
            "five numbers": "{rows_per_second_five_numbers:,.0f}",
            "by torch": "{rows_per_second_five_numbers_by_torch:,.0f}",
            "ours is": "{kernel_ratio:.1f} x",
            "whole reading": "{rows_per_second_read:,.0f}",
            "copied, then read": "{rows_per_second_copied:,.0f}",
            "in place is": "{copied_ratio:.1f} x",
        }),
        Table("mixing", {
            "model": "{model}", "V": "{vocab_size:,}",
            "alone, tokens/s": "{tokens_per_second_alone:,.0f}",
            "mixed": "{tokens_per_second_mixer:,.0f}", "added": "{added_percent_mixer:+.1f} %",
            "mixed, device ahead": "{tokens_per_second_ahead:,.0f}",
            "added ": "{added_percent_ahead:+.1f} %",
        }),
    ),
)  # fmt: skip
