"""``ngrammix bench score``: what scoring adds to the wall time of the model that is scored."""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.overlap import forward
from eval.bench.rounds import take_turns, timed
from eval.config import ScoreConfig
from eval.data.base import Data
from eval.data.open_data import open_data
from eval.demo.reference_text import reference_text
from eval.models.base import Model
from eval.models.load_model import load_demo
from eval.scoring.dataloader import BatchStream
from eval.scoring.score import score, warm_up
from eval.scoring.windows import make_window_shape
from eval.tokenizers.base import Tokenizer

# Stride = context: the model reads each token once, so that its time is that of the scored tokens.
CONTEXT = STRIDE = 256
BATCH = 4
CHECKPOINT_EVERY = 5_000  # tokens
ROWS = 64
MAX_ADDED = 3.0  # percent that scoring may add to a model of 1 ms a token


class StandIn:
    """A model that sleeps the same time for every token, and leaves the processor free.

    Its logits are rows of a small table; lookup, cache and mixer do their whole work on them.

    Parameters
    ----------
    tokenizer : Tokenizer
        Its ids are below V.
    vocab_size : int
        V.
    milliseconds : float
        Time for each token that the model reads.
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


def measure(arguments: argparse.Namespace) -> Figures:
    """Seconds alone and scored, of the stand-in and of the demo model."""
    demo = load_demo()
    stand_in = StandIn(demo.tokenizer, demo.vocab_size, arguments.milliseconds)
    config = ScoreConfig(context=CONTEXT, stride=STRIDE, batch=BATCH, limit=arguments.tokens)
    with TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_bytes(reference_text())
        data = open_data([str(text)])
        models = [measure_model(model, data, config, arguments.runs) for model in (stand_in, demo)]
    return {
        "data": "the Python language reference", "tokens": models[0]["tokens"],
        "context": CONTEXT, "stride": STRIDE, "batch": BATCH, "checkpoint_every": CHECKPOINT_EVERY,
        "most_added_percent": MAX_ADDED, "is_within": models[0]["added_percent"] <= MAX_ADDED,
        "models": models,
    }  # fmt: skip


def measure_model(model: Model, data: Data, config: ScoreConfig, runs: int) -> Figures:
    """Seconds of the model alone, on batches made before, and of `score`, in turn.

    Scoring writes its CSV files and checkpoints into a temporary folder.
    """
    shape = make_window_shape(config, model, model.tokenizer)
    work = list(BatchStream(data, model.tokenizer, config, shape))

    def scored() -> float:
        with TemporaryDirectory() as folder:
            return timed(partial(score_into, model, data, config, Path(folder)))

    warm_up()
    forward(model, work[:1])
    alone = partial(timed, partial(forward, model, work))
    rounds = take_turns({"alone": alone, "score": scored}, runs, model.name)
    n_tokens = sum(len(batch.targets) for batch in work)
    return {
        "model": model.name,
        "tokens": n_tokens,
        "batches": len(work),
        "seconds_alone": rounds.median("alone"),
        "milliseconds_per_token": 1e3 * rounds.median("alone") / n_tokens,
        "seconds_score": rounds.median("score"),
        "added_percent": 100 * (rounds.ratio("score", "alone") - 1),
    }


def score_into(model: Model, data: Data, config: ScoreConfig, folder: Path) -> None:
    """Score with everything: mixer, metrics, CSV files, checkpoints."""
    checkpoint, every = folder / "checkpoint", CHECKPOINT_EVERY
    score(
        model,
        data,
        config,
        out=folder,
        write_tokens=True,
        checkpoint=checkpoint,
        checkpoint_every=every,
    )


BENCH = Bench(
    options=OPTIONS["score"],
    measure=measure,
    report=(
        "eval.score with mixer, metrics, CSV files and a checkpoint every {checkpoint_every:,} "
        "tokens; {batch} windows of {context} tokens in a batch",
        Table("models", {
            "": "{model}", "alone": "{seconds_alone:.3f} s",
            "a token": "{milliseconds_per_token:.3f} ms", "scored": "{seconds_score:.3f} s",
            "added": "{added_percent:+.2f} %",
        }),
        "The limit for a model of 1 ms a token: at most {most_added_percent:g} % added",
    ),
)  # fmt: skip
