"""Score a data set with the model, the cache and their mixture, in one pass."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from eval.config import MIXER_NONE, ScoreConfig
from eval.data.open_data import as_data
from eval.files.lock import hold
from eval.interrupts import ended
from eval.models.base import Model
from eval.scoring.batch import Batch
from eval.scoring.checked import checked
from eval.scoring.checkpoint import Checkpoint
from eval.scoring.conditions import run_conditions
from eval.scoring.csv_writer import REPORT
from eval.scoring.dataloader import BatchStream
from eval.scoring.finishing import OnResult, finish
from eval.scoring.forward import Forward, ForwardRequest, LocalForward
from eval.scoring.progress import Callback, Progress, token_bar
from eval.scoring.result import Result, make_result
from eval.scoring.run import PendingBatch, Run, make_run, saved_like
from eval.scoring.scorers import (
    CacheScorer,
    MixtureScorer,
    ModelScorer,
    Scorer,
    concatenate_hints,
)
from eval.scoring.stopping import kept
from eval.scoring.windows import make_window_shape
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.choose import choose_tokenizer
from eval.tokenizers.default_order import order_for
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.mixer import Mixer
from ngrammix.prefetching import prefetch

CHECKPOINT_EVERY = 1_000_000  # tokens

Item = TypeVar("Item")


def score(
    model: Model | None,
    data: Any,
    config: ScoreConfig | None = None,
    *,
    tokenizer: Any = None,
    forward: Forward | None = None,
    out: Path | None = None,
    write_tokens: bool = False,
    write_report: bool = False,
    overwrite: bool = False,
    checkpoint: Path | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    n_threads: int = 1,
    callbacks: Sequence[Callback] = (),
    on_result: OnResult | None = None,
    progress: bool = False,
) -> Result:
    """Bits per byte of a data set, and the figures behind it, in one pass and constant memory.

    Parameters
    ----------
    model : Model or None
        None: the cache alone.
    data : Data, or what `open_data` takes
        Documents, in the order in which the cache learns them: a path, a data set of the library
        ``datasets``, `Documents`, or a list of them.
    config : ScoreConfig, optional
        How to score.
    tokenizer : Tokenizer, path or object, optional
        See `load_tokenizer`. Default: the model's own; without a model, bytes.
    forward : Forward, optional
        Runs the model, such as on several ranks. Default: in this process.
    out : Path, optional
        Folder for ``documents.csv``; created if it is missing. One run at a time may use it.
    write_tokens : bool
        Write ``tokens.csv`` there too: one line a token.
    write_report : bool
        Write ``result.json`` there too.
    overwrite : bool
        Replace the results of another run in `out`.
    checkpoint : Path, optional
        Folder for the state of the run. If it holds the state of an interrupted run, that run
        continues, and ends with the same figures and files.
    checkpoint_every : int
        Tokens between two checkpoints.
    n_threads : 1 or 2
        CPU threads of the cache; the result is the same, bit for bit.
    callbacks : sequence of callable
        Called with the position and the figures so far; see `Progress`.
    on_result : callable, optional
        Is told the result before the last files are written, so that it is not lost if they cannot.
    progress : bool
        Show a progress bar on stderr.

    Raises
    ------
    ValueError
        If data, model and configuration do not fit, the model sees later tokens, the tokens do
        not account for every byte, a logit is NaN or +inf, `out` or the checkpoint belongs to
        another run or is in use, or a file cannot be written.
    """
    config = ScoreConfig() if config is None else config
    if forward is None and model is not None:
        forward = LocalForward(model)
    tokenizer = choose_tokenizer(model, tokenizer, config.bos)
    with hold(out=out, checkpoint=checkpoint):
        data = as_data(data, tokenizer)
        shape = make_window_shape(config, model, tokenizer)
        stream = BatchStream(data, tokenizer, config, shape)
        conditions = run_conditions(model, tokenizer, data, config, shape)
        scorer = make_scorer(config, model, tokenizer, n_threads)
        store = None if checkpoint is None else Checkpoint(checkpoint, conditions)
        saved = None if store is None else store.load(saved_like(scorer))
        state = None if saved is None else saved[0]
        begun = perf_counter()
        batches = checked(iter(stream), model, tokenizer, config, shape)
        seconds_check = perf_counter() - begun
        seconds_compile = warm_up()
        naming = nullcontext if saved is None or store is None else store.naming
        with make_run(
            scorer,
            out,
            state,
            conditions,
            write_tokens=write_tokens,
            overwrite=overwrite,
            needs_rows=checkpoint is not None,  # another run goes on once they can be written
            naming=naming,
        ) as run:
            run.seconds["compile"] = seconds_compile
            if saved is not None:
                replay(run, batches, saved[0]["position"])
                with naming():
                    run.load_state_dict(*saved)
            started = perf_counter() - run.seconds["total"] - seconds_check

            def save() -> None:
                run.seconds["total"] = perf_counter() - started
                if store is not None:
                    store.save(run.state_dict(), run.expert_state())

            if saved is None:
                save()  # the same command goes on, however early it is interrupted
            n_parallel = 1 if forward is None else forward.n_parallel
            with token_bar(progress) as bar, kept(run, save, checkpoint):
                shown = Progress(bar, callbacks, first=run.position, limit=config.limit)
                parts = split_by_size(batches, lambda batch: len(batch.targets), checkpoint_every)
                for n_before, part in enumerate(parts):
                    if n_before:
                        save()
                    groups = prefetch(observed_groups(part, run, n_parallel), n_ahead=1)
                    with ended(groups):
                        for group in groups:
                            score_group(group, run, forward, config)
                            shown.show(run, stream.fraction_of(group[-1].batch))
                shown.show(run, 1.0, at_end=True)
            run.seconds["total"] = perf_counter() - started
            result = make_result(run, stream, conditions)
            finish(run, result, save, on_result, out / REPORT if out and write_report else None)
    return result


def replay(run: Run, batches: Iterator[Batch], position: int) -> None:
    """Let the run learn batches until `position`, the number of tokens already scored."""
    while run.position < position and (batch := next(batches, None)) is not None:
        run.replay(batch)


def observed_groups(
    batches: Iterator[Batch], run: Run, n_parallel: int
) -> Iterator[list[PendingBatch]]:
    """Groups of up to `n_parallel` batches, observed and ready for the model."""
    while True:
        with run.clock("read"):
            group = list(islice(batches, n_parallel))
        if not group:
            return
        yield [run.observe(batch) for batch in group]


def score_group(
    group: Sequence[PendingBatch], run: Run, forward: Forward | None, config: ScoreConfig
) -> None:
    """Run the model on a group of batches, and score them in stream order."""
    if forward is None:
        for pending in group:
            run.score(pending, None)
        return
    requests = [
        ForwardRequest(
            pending.batch.inputs,
            pending.batch.is_scored,
            pending.batch.targets,
            concatenate_hints(pending.observed, len(pending.batch.targets)),
            pending.position,
            config.allow_probabilities,
        )
        for pending in group
    ]
    with run.clock("model"):
        logprobs = forward(requests)
    for pending, model in zip(group, logprobs, strict=True):
        run.score(pending, model)


def split_by_size(
    items: Iterable[Item], size: Callable[[Item], int], min_size: int
) -> Iterator[Iterator[Item]]:
    """Consecutive parts of the items, each at least `min_size` in size but for the last.

    Consume one part before taking the next.
    """
    items = iter(items)
    for first in items:
        yield _take_size(chain([first], items), size, min_size)


def _take_size(items: Iterator[Item], size: Callable[[Item], int], n_left: int) -> Iterator[Item]:
    while n_left > 0 and (item := next(items, None)) is not None:
        n_left -= size(item)
        yield item


def make_scorer(
    config: ScoreConfig, model: Model | None, tokenizer: Tokenizer, n_threads: int = 1
) -> Scorer:
    """A new scorer, as configured: mixture, model alone, or without a model the cache alone."""
    if model is None:
        cache = NgramCache(
            vocab_size=tokenizer.vocab_size,
            order=order_for(config.order, tokenizer),
            memory_limit=config.memory_limit,
            n_threads=n_threads,
        )
        return CacheScorer(cache)
    if config.mixer == MIXER_NONE:
        return ModelScorer()
    return MixtureScorer(
        Mixer(
            vocab_size=model.vocab_size,
            order=order_for(config.order),
            memory_limit=config.memory_limit,
            experts=config.mixer,
            n_threads=n_threads,
            check_overlaps=False,  # its windows score each token once
        )
    )


def warm_up() -> float:
    """Seconds to compile every kernel that scoring uses, or to load it from disk."""
    started = perf_counter()
    mixer = Mixer(vocab_size=2, order=2)
    for dtype in (np.float32, np.float64):
        mixer.score(np.zeros((3, 2), dtype), [0, 1, 0])
    mixer.learn([0, 1])
    mixer.observe([0]).nats_cache(2)
    return perf_counter() - started
