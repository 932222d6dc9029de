"""``ngrammix bench ranks``: what ranks gain the forward pass, and what scorer takes beside it."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver
from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.distributed.messages import pack_gathered, pack_job
from eval.models.load_model import load_demo
from eval.scoring.dataloader import BatchStream
from eval.scoring.forward import ForwardRequest
from eval.scoring.score import make_scorer
from eval.scoring.scorers import concatenate_hints
from eval.scoring.windows import make_window_shape
from eval.tables import align, make_folder
from ngrammix.logits import ModelLogprobs

PARTS = ("seconds", "seconds_model", "seconds_mixer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--ranks",
        type=int,
        nargs="+",
        default=[1, 2],
        metavar="R",
        help="how many, the first being what the others are measured by (default: 1 2)",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--tokens",
        type=int,
        default=40_000,
        metavar="N",
        help="tokens of the embedded text that are scored (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "runs", "tokens")
    if (least := min(arguments.ranks)) < 1:
        raise ValueError(f"--ranks must be >= 1, got {least}; leave it out for the default")
    make_folder(arguments.out)
    figures = measure(arguments.ranks, arguments.tokens, arguments.runs)
    deliver(figures, arguments, "ranks.json", table)


def measure(ranks: Sequence[int], tokens: int, runs: int) -> dict[str, Any]:
    """Medians of `runs` scores of the embedded text for each number of ranks, taken in turn."""
    from eval.demo.reference_text import reference_text

    name, text = "the Python language reference", reference_text()
    found: dict[int, list[dict[str, Any]]] = {size: [] for size in ranks}
    outcomes = set()
    with TemporaryDirectory() as folder:
        data = Path(folder, "text")
        data.write_bytes(text)
        for _ in tqdm(range(runs), desc="rounds", delay=2, disable=None):
            for size in found:
                result, outcome = score(size, data, tokens, Path(folder, "out"))
                found[size].append(result)
                outcomes.add(outcome)
    model = load_demo()
    job_bytes, gathered_bytes = message_bytes(Documents([Document(name, text)]), tokens)
    first = next(iter(found))
    return {
        "data": name,
        "model": model.name,
        "tokens": tokens,
        "runs": runs,
        "bytes_per_token_sent_to_a_rank": job_bytes,
        "bytes_per_token_sent_back": gathered_bytes,
        "is_same_bits": len(outcomes) == 1,
        "ranks": [figures(size, found[size], found[first]) for size in found],
    }


def figures(
    size: int, found: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Medians of the runs of one number of ranks, and ratios to those of another."""
    seconds, model, mixer = (median(run[part] for run in found) for part in PARTS)
    return {
        "ranks": size,
        "seconds": seconds,
        "seconds_forward": model,
        "seconds_mixer": mixer,
        "forward_speed_up": median(run["seconds_model"] for run in base) / model,
        "whole_speed_up": median(run["seconds"] for run in base) / seconds,
        "beside_forward_percent": 100
        * median(1 - r["seconds_model"] / r["seconds"] for r in found),
        "mixer_percent": 100 * median(run["seconds_mixer"] / run["seconds"] for run in found),
    }


def score(size: int, data: Path, tokens: int, out: Path) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """``result.json`` of a score by so many ranks, and all of its outcome but times."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    options = ["--data", str(data), "--limit", str(tokens), "--out", str(out), "--device", "cpu"]
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
    """Bytes a token of the jobs, and of what comes back, of the embedded model on `data`."""
    model, config = load_demo(), ScoreConfig(limit=tokens)
    shape = make_window_shape(config, model, model.tokenizer)
    scorer = make_scorer(config, model, model.tokenizer)
    there = back = position = 0
    for batch in BatchStream(data, model.tokenizer, config, shape):
        zeros = np.zeros(n := len(batch.targets))
        hint_tokens = concatenate_hints(scorer.observe(batch), n)
        job = ForwardRequest(batch.inputs, batch.is_scored, batch.targets, hint_tokens, position)
        hints = np.zeros(hint_tokens.shape)
        said = ModelLogprobs(zeros, zeros, zeros.astype(np.int64), zeros, hints)
        there += len(pack_job(job))
        back += len(pack_gathered(said, job.hint_tokens))
        position += n
    return there / position, back / position


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    rows = [("ranks", "seconds", "forward", "speed-up", "of the whole", "beside it", "mixer")]
    for row in result["ranks"]:
        rows.append(
            (
                str(row["ranks"]),
                f"{row['seconds']:.2f}",
                f"{row['seconds_forward']:.2f}",
                f"{row['forward_speed_up']:.2f}",
                f"{row['whole_speed_up']:.2f}",
                f"{row['beside_forward_percent']:.1f} %",
                f"{row['mixer_percent']:.1f} %",
            )
        )
    return "\n".join(
        [
            f"{result['model']} over {result['tokens']:,} tokens of {result['data']}, one thread a "
            f"rank; medians of {result['runs']}",
            "",
            *align(rows),
            "",
            f"{result['bytes_per_token_sent_to_a_rank']:.1f} bytes a token go to a rank, "
            f"{result['bytes_per_token_sent_back']:.1f} come back; same bits: "
            f"{'yes' if result['is_same_bits'] else 'NO'}",
            "beside it: of the wall time, what was no forward pass; mixer: its own seconds, of "
            "which some ran beside",
        ]
    )
