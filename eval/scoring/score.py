"""Score a data set: the model alone, the cache alone, and the two mixed, in one pass."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.config import MIXER_NONE, ScoreConfig
from eval.data.base import Data
from eval.models.base import Model
from eval.scoring.ahead import ahead, stretches
from eval.scoring.batch import Batch
from eval.scoring.checkpoint import Checkpoint
from eval.scoring.csv_writer import CsvWriter
from eval.scoring.dataloader import BatchStream, Shape, make_shape
from eval.scoring.forward import Forward, Job, Local
from eval.scoring.metrics import ScoreMetrics
from eval.scoring.progress import Callback, Progress
from eval.scoring.result import Result, make_result
from eval.scoring.run import PendingBatch, Run
from eval.scoring.scorers import CacheScorer, MixtureScorer, ModelScorer, Scorer, hint_tokens
from eval.tables import versions
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import as_bytes
from ngrammix.mixer import Mixer

EVERY = 1_000_000  # tokens from one checkpoint to the next


def score(
    model: Model | None,
    data: Data,
    config: ScoreConfig | None = None,
    *,
    tokenizer: Tokenizer | None = None,
    forward: Forward | None = None,
    out: Path | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = EVERY,
    n_threads: int = 1,
    callbacks: Sequence[Callback] = (),
    bar: tqdm | None = None,
) -> Result:
    """Bits per byte of a data set, and what they are made of; one pass, in constant memory.

    Parameters
    ----------
    model : Model or None
        None: the cache alone.
    data : Data
        Documents, in the order in which the cache learns them.
    config : ScoreConfig, optional
        How to score.
    tokenizer : Tokenizer, optional
        In the place of the model's own; without a model, of raw bytes.
    forward : Forward, optional
        Runs the model elsewhere: on other ranks.
    out : Path, optional
        Folder for ``tokens.csv`` and ``documents.csv``; it exists.
    checkpoint : Path, optional
        Folder that keeps what an interrupted run needs; such a run is taken up there, and ends with
        the same figures and files.
    checkpoint_every : int
        Tokens from one checkpoint to the next.
    n_threads : 1 or 2
        CPU threads of the cache; the result is the same, bit for bit.
    callbacks, bar
        Told of the progress: see `Progress`.

    Raises
    ------
    ValueError
        If the data, the model and the configuration do not fit each other, bytes cannot be
        accounted for, the logits are no numbers, or the checkpoint is another run's.
    """
    config = ScoreConfig() if config is None else config
    if tokenizer is None:
        tokenizer = ByteTokenizer() if model is None else model.tokenizer
    shape = make_shape(config, model, tokenizer)
    feed = BatchStream(data, tokenizer, config, shape)
    identity = identify(model, tokenizer, data, config, shape)
    mixing = make_scorer(config, model, tokenizer, n_threads)
    kept = None if checkpoint is None else Checkpoint(checkpoint, identity)
    parts = None if kept is None else kept.load()
    if forward is None and model is not None:
        forward = Local(model)
    seconds_compile = warm_up()
    with make_run(mixing, out, None if parts is None else parts[0]) as run:
        run.seconds["compile"] = seconds_compile
        source = iter(feed)
        if parts is not None:
            catch_up(run, source, *parts)
        progress = Progress(bar, callbacks)
        started = perf_counter() - run.seconds["total"]
        for stretch in stretches(source, lambda batch: len(batch.targets), checkpoint_every):
            for together in ahead(rounds(stretch, run, 1 if forward is None else forward.width)):
                pass_through(together, run, forward)
                progress.show(run, feed.fraction(together[-1].batch))
            run.seconds["total"] = perf_counter() - started
            if kept is not None:
                kept.save(run.state(), mixing.state_dict())
        run.finish()
        progress.show(run, 1.0, at_end=True)
    return make_result(run, feed, identity)


def catch_up(
    run: Run, source: Iterator[Batch], state: dict[str, Any], experience: dict[str, Any]
) -> None:
    """Let the run relearn what another one scored, and go on from there."""
    for batch in source:
        run.replay(batch)
        if run.position >= state["position"]:
            break
    run.load_state_dict(state, experience)


def rounds(batches: Iterator[Batch], run: Run, width: int) -> Iterator[list[PendingBatch]]:
    """Up to `width` batches at a time, each looked at."""
    while True:
        with run.clock("read"):
            together = list(islice(batches, width))
        if not together:
            return
        yield [run.look(batch) for batch in together]


def pass_through(together: Sequence[PendingBatch], run: Run, forward: Forward | None) -> None:
    """Take a round through the model, wherever that runs, and settle it in stream order."""
    if forward is None:
        for looked in together:
            run.settle(looked, None)
        return
    jobs = [Job(looked.batch, hint_tokens(looked.observed), looked.position) for looked in together]
    with run.clock("model"):
        gathered = forward(jobs)
    for looked, model in zip(together, gathered, strict=True):
        run.settle(looked, model)


def identify(
    model: Model | None, tokenizer: Tokenizer, data: Data, config: ScoreConfig, shape: Shape
) -> dict[str, Any]:
    """Every condition that moves a figure: what a resumed run must have in common."""
    conditions = {its.name: getattr(config, its.name) for its in fields(ScoreConfig)}
    conditions |= {"context": shape.context, "stride": shape.stride}
    if config.memory_limit is not None:
        conditions["memory_limit"] = as_bytes(config.memory_limit)
    if model is None:
        conditions |= {"mixer": MIXER_NONE, "context": None, "stride": None}
    elif config.mixer == MIXER_NONE:
        conditions |= {"order": None, "memory_limit": None}
    names = {"model": "none" if model is None else model.name, "tokenizer": tokenizer.name}
    return {"data": data.name, **names, **conditions, "versions": versions()}


def make_scorer(
    config: ScoreConfig, model: Model | None, tokenizer: Tokenizer, n_threads: int = 1
) -> Scorer:
    """What prices the tokens, as the configuration says; it has learned nothing."""
    if model is None:
        cache = NgramCache(
            vocab_size=tokenizer.vocab_size,
            order=config.order,
            memory_limit=config.memory_limit,
            n_threads=n_threads,
        )
        return CacheScorer(cache)
    if config.mixer == MIXER_NONE:
        return ModelScorer()
    return MixtureScorer(
        Mixer(
            vocab_size=model.vocab_size,
            order=config.order,
            memory_limit=config.memory_limit,
            experts=config.mixer,
            n_threads=n_threads,
        )
    )


def make_run(mixing: Scorer, out: Path | None, state: dict[str, Any] | None) -> Run:
    """A run that has scored nothing, or, once its tokens are replayed, what `state` says."""
    cache = mixing.cache
    has_model, has_cache = not isinstance(mixing, CacheScorer), cache is not None
    if state is None:
        length = None if cache is None else cache.order
        tally = ScoreMetrics(has_model=has_model, has_cache=has_cache, length=length)
    else:
        tally = ScoreMetrics.restore(state["tally"])
        if (state["records"] is None) != (out is None):
            raise ValueError(
                f"a run goes on with the --out it began with, got {out}; give it the same, or "
                "delete the checkpoint"
            )
    if out is None:
        return Run(mixing, tally)
    kept = None if state is None else state["records"]
    has = {"has_model": has_model, "has_cache": has_cache, "has_match": has_cache}
    return Run(mixing, tally, CsvWriter(out, **has, state=kept))


def warm_up() -> float:
    """Seconds to compile every kernel that scoring uses, or to load it from disk."""
    started = perf_counter()
    mixer = Mixer(vocab_size=2, order=2)
    for dtype in (np.float32, np.float64):
        mixer.score(np.zeros((3, 2), dtype), [0, 1, 0])
    mixer.learn([0, 1])
    mixer.observe([0]).nats_cache(2)
    return perf_counter() - started
