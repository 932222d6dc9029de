"""``ngrammix bench ranks``: what the forward pass gains by ranks, and what the mixer adds."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.rounds import progress
from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.distributed.messages import pack_request
from eval.models.load_model import load_demo
from eval.scoring.dataloader import BatchStream
from eval.scoring.forward import ForwardRequest
from eval.scoring.score import make_scorer
from eval.scoring.scorers import concatenate_hints
from eval.scoring.windows import make_window_shape
from ngrammix.model_logprobs import ModelLogprobs, pack

PARTS = ("seconds", "seconds_model", "seconds_mixer")


def measure(arguments: argparse.Namespace) -> Figures:
    """Medians of the scores of the embedded text with each number of ranks, which take turns."""
    from eval.demo.reference_text import reference_text

    name, text = "the Python language reference", reference_text()
    runs: dict[int, list[Figures]] = {size: [] for size in arguments.ranks}
    outcomes = set()
    with TemporaryDirectory() as folder:
        data = Path(folder, "text")
        data.write_bytes(text)
        for _ in progress(range(arguments.runs), "rounds"):
            for size in runs:
                result, outcome = score(size, data, arguments.tokens, Path(folder, "out"))
                runs[size].append(result)
                outcomes.add(outcome)
    job_bytes, gathered_bytes = message_bytes(Documents([Document(name, text)]), arguments.tokens)
    base = runs[arguments.ranks[0]]
    return {
        "data": name, "model": load_demo().name, "bytes_per_token_sent_to_a_rank": job_bytes,
        "bytes_per_token_sent_back": gathered_bytes, "is_same_bits": len(outcomes) == 1,
        "ranks": [figures(size, runs[size], base) for size in runs],
    }  # fmt: skip


def figures(size: int, runs: Sequence[Figures], base: Sequence[Figures]) -> Figures:
    """Medians of the runs of one number of ranks, and ratios to those of the base."""
    seconds, model, mixer = (median(run[part] for run in runs) for part in PARTS)
    return {
        "ranks": size, "seconds": seconds, "seconds_forward": model, "seconds_mixer": mixer,
        "forward_speed_up": median(run["seconds_model"] for run in base) / model,
        "whole_speed_up": median(run["seconds"] for run in base) / seconds,
        "beside_forward_percent": 100
        * median(1 - run["seconds_model"] / run["seconds"] for run in runs),
        "mixer_percent": 100 * median(run["seconds_mixer"] / run["seconds"] for run in runs),
    }  # fmt: skip


def score(size: int, data: Path, tokens: int, out: Path) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """``result.json`` of a score with `size` ranks, and all results that no time affects."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    options = ["--data", str(data), "--limit", str(tokens), "--out", str(out)]
    options += ["--tokens", "--overwrite", "--device", "cpu"]
    # One thread a rank, however many there are: as torchrun has it, and for the same bits.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, "-m", "eval", "score", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(
            f"torchrun must start {size} ranks, got status {done.returncode}; it said:\n"
            f"{done.stderr}"
        )
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    others = (value for key, value in result.items() if "second" not in key)
    files = ((out / name).read_bytes() for name in ("tokens.csv", "documents.csv"))
    return result, (*others, *files)


def message_bytes(data: Data, tokens: int) -> tuple[float, float]:
    """Bytes a token sent to a rank, and sent back, for the embedded model on `data`."""
    model, config = load_demo(), ScoreConfig(limit=tokens)
    shape = make_window_shape(config, model, model.tokenizer)
    scorer = make_scorer(config, model, model.tokenizer)
    there = back = position = 0
    for batch in BatchStream(data, model.tokenizer, config, shape):
        zeros = np.zeros(n := len(batch.targets))
        hint_tokens = concatenate_hints(scorer.observe(batch), n)
        inputs, is_scored, targets = batch.inputs, batch.is_scored, batch.targets
        request = ForwardRequest(inputs, is_scored, targets, hint_tokens, position)
        logprobs = ModelLogprobs(zeros, zeros, targets, zeros, np.zeros(hint_tokens.shape))
        there += sum(array.nbytes for array in pack_request(request))
        back += pack(logprobs).nbytes
        position += n
    return there / position, back / position


BENCH = Bench(
    options=OPTIONS["ranks"],
    measure=measure,
    report=(
        Table("ranks", {
            "ranks": "{ranks:d}", "seconds": "{seconds:.2f}", "forward": "{seconds_forward:.2f}",
            "speed-up": "{forward_speed_up:.2f}", "of the whole": "{whole_speed_up:.2f}",
            "beside it": "{beside_forward_percent:.1f} %", "mixer": "{mixer_percent:.1f} %",
        }),
        "One thread a rank. {bytes_per_token_sent_to_a_rank:.1f} bytes a token go to a rank, "
        "{bytes_per_token_sent_back:.1f} come back; same bits: {is_same_bits}. Beside it: share of "
        "the wall time without a forward pass; mixer: its seconds, part of them during one.",
    ),
)  # fmt: skip
