"""``ngrammix bench overlap``: what the cache adds to the wall time of the model alone."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from eval.bench.harness import Bench, Figures, Table, rows_of
from eval.bench.options import OPTIONS
from eval.bench.rounds import take_turns, timed
from eval.bench.stream import load_tokens
from eval.models.base import Model
from eval.models.load_model import load_demo
from eval.scoring.batch import Batch, batches, scored_logits
from eval.scoring.score import warm_up
from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.windows import windows
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.mixer import Mixer
from ngrammix.prefetching import prefetch

BATCH = 8  # windows in one forward pass; larger batches are no faster on a processor
WAYS = {
    "model_alone": "model alone",
    "cache_ahead": "+ cache in a thread",
    "cache_between": "+ cache between the passes",
    "whole_mixer": "+ gathering, cache and mixer",
}


def measure(arguments: argparse.Namespace) -> Figures:
    """Seconds of each way to score the head of the text, after the cache learned the rest."""
    model = load_demo()
    data, tokens, _ = load_tokens(None)
    n = min(arguments.tokens, len(tokens) // 2)
    tokens, prefill = tokens[:n], tokens[n:]
    piece = TokenizedPiece(tokens, np.ones_like(tokens), np.arange(n) == 0, is_context_start=True)
    bos = model.tokenizer.bos or 0
    work = list(batches(windows([piece], model.context, model.context // 2, bos), BATCH))
    make_cache = partial(NgramCache, order=arguments.order, vocab_size=model.vocab_size)
    make_mixer = partial(Mixer, order=arguments.order, vocab_size=model.vocab_size)

    def after_prefill(way: Callable[..., object], make: Callable[[], NgramCache | Mixer]) -> float:
        learned = make()
        learned.learn(prefill)
        return timed(partial(way, model, work, learned))

    warm_up()
    forward(model, work[:1])
    rounds = take_turns(
        {
            "model_alone": partial(timed, partial(forward, model, work)),
            "cache_ahead": partial(after_prefill, ahead, make_cache),
            "cache_between": partial(after_prefill, between, make_cache),
            "whole_mixer": partial(after_prefill, mixed, make_mixer),
        },
        arguments.runs,
    )
    figures: Figures = {
        "data": data, "model": model.name, "tokens": n, "prefill_tokens": len(prefill),
        "batches": len(work),
    }  # fmt: skip
    for way in WAYS:
        figures[f"seconds_{way}"] = rounds.median(way)
        figures[f"added_percent_{way}"] = 100 * (rounds.ratio(way, "model_alone") - 1)
    return figures


def forward(model: Model, work: Sequence[Batch]) -> None:
    """Compute the logits and drop them."""
    for batch in work:
        model.logits(batch.inputs)


def ahead(model: Model, work: Sequence[Batch], cache: NgramCache) -> None:
    """Let the cache observe in a thread, ahead of the forward passes."""
    evidence = prefetch(cache.observe(batch.targets) for batch in work)
    for batch, _ in zip(work, evidence, strict=True):
        model.logits(batch.inputs)


def between(model: Model, work: Sequence[Batch], cache: NgramCache) -> None:
    """Observe after each forward pass, in the same thread."""
    for batch in work:
        model.logits(batch.inputs)
        cache.observe(batch.targets)


def mixed(model: Model, work: Sequence[Batch], mixer: Mixer) -> None:
    """Score: observe, look up the logits, mix."""
    for batch in work:
        start = 0
        for logits in scored_logits(model.logits(batch.inputs), batch.is_scored):
            mixer.score(logits, batch.targets[start : start + len(logits)])
            start += len(logits)


BENCH = Bench(
    options=OPTIONS["overlap"],
    measure=measure,
    report=(
        "{batches} batches; the cache learned {prefill_tokens:,} tokens before",
        Table(lambda figures: rows_of(figures, WAYS, "seconds", "added_percent"), {
            "": "{name}", "seconds": "{seconds:.3f}",
            "added to the model's": "{added_percent:+.2f} %",
        }),
    ),
)  # fmt: skip
