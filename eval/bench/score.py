"""``ngrammix bench score``: what scoring adds to the wall time of the model that is scored."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver, timed
from eval.bench.overlap import forward
from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.open_data import open_data
from eval.demo.reference_text import reference_text
from eval.models.base import Model
from eval.models.load_model import load_demo
from eval.scoring.dataloader import BatchStream
from eval.scoring.score import score, warm_up
from eval.scoring.windows import make_window_shape
from eval.tables import make_folder
from eval.tokenizers.base import Tokenizer

# Every token that the model reads is scored, so that its time is that of the tokens scored.
CONTEXT = STRIDE = 256
BATCH = 4
EVERY = 5_000  # tokens from one checkpoint to the next
ROWS = 64
MOST_ADDED = 3.0  # percent that scoring may add to a model of 1 ms a token


class StandIn:
    """A model that takes the same time for every token, and no processor meanwhile.

    Its logits are rows of a small table, so gathering, cache and mixer do their whole work.

    Parameters
    ----------
    tokenizer : Tokenizer
        Its ids are below V.
    vocab_size : int
        V.
    milliseconds : float
        For each token that is read.
    """

    context = CONTEXT

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, milliseconds: float) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.name = f"stand-in, {milliseconds:g} ms a token"
        self._seconds = milliseconds / 1e3
        rng = np.random.default_rng(0)
        self._table = rng.normal(size=(ROWS, vocab_size)).astype(np.float32)

    def logits(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits (B, T, V) after tokens (B, T)."""
        sleep(tokens.size * self._seconds)
        logits: NDArray[np.float32] = self._table[tokens % ROWS]
        return logits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--milliseconds",
        type=float,
        default=1.0,
        metavar="MS",
        help="that the stand-in takes for a token (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens",
        type=int,
        default=8_000,
        metavar="N",
        help="tokens of the embedded text that are scored (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "tokens", "runs")
    milliseconds = arguments.milliseconds
    if not 0 < milliseconds < math.inf:
        raise ValueError(
            f"--milliseconds must be > 0 and finite, got {milliseconds:g}; leave it out for 1"
        )
    make_folder(arguments.out)
    demo = load_demo()
    stand_in = StandIn(demo.tokenizer, demo.vocab_size, milliseconds)
    config = ScoreConfig(context=CONTEXT, stride=STRIDE, batch=BATCH, limit=arguments.tokens)
    with TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_bytes(reference_text())
        data = open_data([str(text)])
        models = [measure(model, data, config, arguments.runs) for model in (stand_in, demo)]
    result = {
        "data": "the Python language reference",
        "tokens": models[0]["tokens"],
        "context": CONTEXT,
        "stride": STRIDE,
        "batch": BATCH,
        "checkpoint_every": EVERY,
        "runs": arguments.runs,
        "milliseconds": milliseconds,
        "most_added_percent": MOST_ADDED,
        "is_within": models[0]["added_percent"] <= MOST_ADDED,
        "models": models,
    }
    deliver(result, arguments, "score.json", table)


def measure(model: Model, data: Data, config: ScoreConfig, runs: int) -> dict[str, Any]:
    """Seconds of the model alone, on batches that lie ready, and of all of `score`, in turn.

    Medians, that of the ratios too; scoring writes its records and checkpoints into a folder that
    is dropped.
    """
    work = list(
        BatchStream(
            data, model.tokenizer, config, make_window_shape(config, model, model.tokenizer)
        )
    )
    warm_up()
    forward(model, work[:1])
    alone, whole = [], []
    for _ in tqdm(range(runs), desc=model.name, delay=2, disable=None):
        alone.append(timed(partial(forward, model, work)))
        whole.append(in_folder(partial(score_into, model, data, config)))
    ratios = [a / b for a, b in zip(whole, alone, strict=True)]
    return {
        "model": model.name,
        "tokens": sum(len(batch.targets) for batch in work),
        "batches": len(work),
        "seconds_alone": median(alone),
        "seconds_score": median(whole),
        "added_percent": 100 * (median(ratios) - 1),
    }


def score_into(model: Model, data: Data, config: ScoreConfig, folder: Path) -> None:
    """Score with everything: mixer, sums, records, checkpoints."""
    score(model, data, config, out=folder, checkpoint=folder / "checkpoint", checkpoint_every=EVERY)


def in_folder(work: Callable[[Path], object]) -> float:
    """Seconds of work that needs an empty folder."""
    with TemporaryDirectory() as folder:
        return timed(partial(work, Path(folder)))


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"eval.score over {result['tokens']:,} tokens of {result['data']}: mixer, sums, records,",
        f"a checkpoint every {result['checkpoint_every']:,} tokens; {result['batch']} windows of "
        f"{result['context']} tokens in a batch; medians of {result['runs']}",
        "",
        f"{'':<34}{'alone, s':>10}{'ms a token':>12}{'scored, s':>11}{'added':>11}",
    ]
    for row in result["models"]:
        each = 1e3 * row["seconds_alone"] / row["tokens"]
        lines.append(
            f"{row['model']:<34}{row['seconds_alone']:>10.3f}{each:>12.3f}"
            f"{row['seconds_score']:>11.3f}{row['added_percent']:>+9.2f} %"
        )
    lines += [
        "",
        f"asked of a model of 1 ms a token: at most {result['most_added_percent']:g} %",
    ]
    return "\n".join(lines)
