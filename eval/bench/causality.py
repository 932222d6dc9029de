"""``ngrammix bench causality``: what the probe for models that see the future costs and says."""

import argparse
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers import tiny_models
from eval.bench.rounds import timed
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.demo.reference_text import reference_text
from eval.models.causality import find_leak
from eval.models.load_model import load_demo
from eval.models.movement import movement, spread
from eval.models.wrap import wrap
from eval.scoring.checked import FIRST, checked
from eval.scoring.dataloader import BatchStream
from eval.scoring.score import score, warm_up
from eval.scoring.windows import make_window_shape
from eval.types import Tokens

DTYPES = ("float32", "bfloat16")
LENGTH = 100  # tokens of the longest window
RUN = 1_000_000  # tokens of the run whose share is shown


def measure(arguments: argparse.Namespace) -> Figures:
    """Verdicts on tiny models of every family, and the seconds of the probe beside a run."""
    names = arguments.families or tiny_models.families()
    rows = [row for name in names if (row := measure_family(name))]
    accused = [row for row in rows if any(row[dtype] for dtype in DTYPES)]
    return {
        "families": len(rows),
        "rows": rows,
        "accused": accused,
        "n_accused": len(accused),
        "false_alarms": sum(not row["float64"] for row in accused),
        **measure_cost(arguments.tokens, arguments.runs),
    }


def measure_family(name: str) -> Figures | None:
    """What the probe says of a family in each dtype, and rounding noise; None if none is built.

    A leak that float64 shows too is none of rounding: its noise is a billion times smaller.
    """
    import torch

    text = np.random.default_rng(0).integers(3, tiny_models.VOCAB, LENGTH)
    row: Figures = {"family": name}
    for dtype in (*DTYPES, "float64"):
        if dtype == "float64" and not any(row[dtype] for dtype in DTYPES):
            row[dtype] = None  # no leak is in doubt
            continue
        if (network := tiny_models.build(name)) is None:
            return None
        model = wrap(
            network.to(getattr(torch, dtype)),
            context=LENGTH, tokenizer=None, vocab_size=tiny_models.VOCAB, name=name,
        )  # fmt: skip
        try:
            found = find_leak(model.logits, text, vocab_size=tiny_models.VOCAB, longest=LENGTH)
        except RuntimeError:  # a family that does not compute in this dtype
            row[dtype] = row[f"noise_{dtype}"] = None
            continue
        row[dtype] = None if found is None else found.kind
        row[f"noise_{dtype}"] = noise(model.logits, text)
    return row


def noise(logits: Any, text: Tokens) -> float:
    """How far logits move, as a share of their spread, if half of their batch is taken away."""
    rows = np.stack([text, text[::-1]])
    both = logits(rows)[0]
    return float(median(movement(logits(rows[:1])[0], both))) / max(spread(both), 1e-30)


def measure_cost(n_tokens: int, runs: int) -> Figures:
    """Seconds of the probe, and of the run that leaves it out."""
    model, data = load_demo(), Documents([Document("text", reference_text())])
    config = ScoreConfig(limit=n_tokens)
    shape = make_window_shape(config, model, model.tokenizer)

    def probe() -> None:
        batches = iter(BatchStream(data, model.tokenizer, config, shape))
        next(checked(batches, model, model.tokenizer, config, shape))

    def read() -> None:
        batches = iter(BatchStream(data, model.tokenizer, config, shape))
        list(islice(batches, FIRST))

    warm_up()
    plain = ScoreConfig(limit=n_tokens, causality_check=False)
    seconds = median(timed(partial(score, model, data, plain)) for _ in range(runs))
    cost = median(timed(probe) - timed(read) for _ in range(runs))
    return {
        "model": model.name,
        "seconds_probe": cost,
        "seconds_run": seconds,
        "run": RUN,
        "percent_of_run": 100 * cost / (seconds * RUN / n_tokens),
    }


BENCH = Bench(
    options=OPTIONS["causality"],
    measure=measure,
    report=(
        "Tiny random models of {families} families of transformers, in float32 and in bfloat16: "
        "{n_accused} accused, {false_alarms} of them falsely (float64 does not show it)",
        Table("accused", {
            "family": "{family}", "float32": "{float32}", "bfloat16": "{bfloat16}",
            "float64": "{float64}", "noise float32": "{noise_float32:.1e}",
            "noise bfloat16": "{noise_bfloat16:.1e}",
        }),
        "The probe of {model} takes {seconds_probe:.3f} s: {percent_of_run:.3f} % of a run over "
        "{run:,} tokens, by the run of {tokens:,} tokens that leaves it out ({seconds_run:.2f} s)",
    ),
)  # fmt: skip
