"""``ngrammix bench overlap``: what the cache adds to the wall time of the model alone."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver, load_tokens, timed
from eval.models.base import Model
from eval.models.load_model import load_demo
from eval.scoring.batch import Batch, batches, scored_logits
from eval.scoring.score import warm_up
from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.windows import windows
from eval.tables import make_folder
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.mixer import Mixer
from ngrammix.prefetching import prefetch

BATCH = 8  # windows in one forward pass: more is no faster on a processor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument("--order", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--tokens",
        type=int,
        default=20_000,
        metavar="N",
        help="tokens of the embedded text that are scored (default: %(default)s); the cache reads "
        "the rest of the text first",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "runs", "tokens")
    make_folder(arguments.out)
    data, tokens, _ = load_tokens(None)
    n = min(arguments.tokens, len(tokens) // 2)
    figures = measure(load_demo(), tokens[n:], tokens[:n], arguments.order, arguments.runs)
    deliver({"data": data} | figures, arguments, "overlap.json", table)


def measure(
    model: Model, prefill: NDArray[np.int64], tokens: NDArray[np.int64], order: int, runs: int
) -> dict[str, Any]:
    """Seconds of each way to go over `tokens` (T,), the ways in turn; medians, and ratios."""
    piece = TokenizedPiece(
        tokens, np.ones_like(tokens), np.arange(len(tokens)) == 0, is_context_start=True
    )
    bos = model.tokenizer.bos or 0
    work = list(batches(windows([piece], model.context, model.context // 2, bos), BATCH))
    warm_up()

    def fresh(way: Callable[..., object], make: Callable[[], NgramCache | Mixer]) -> float:
        learned = make()
        learned.learn(prefill)
        return timed(partial(way, model, work, learned))

    make_cache = partial(NgramCache, order=order, vocab_size=model.vocab_size)
    make_mixer = partial(Mixer, order=order, vocab_size=model.vocab_size)
    seconds: dict[str, list[float]] = {
        "model_alone": [], "cache_ahead": [], "cache_between": [], "whole_mixer": []
    }  # fmt: skip
    forward(model, work[:1])
    for _ in tqdm(range(runs), desc="rounds", delay=2, disable=None):
        seconds["model_alone"].append(timed(partial(forward, model, work)))
        seconds["cache_ahead"].append(fresh(ahead, make_cache))
        seconds["cache_between"].append(fresh(between, make_cache))
        seconds["whole_mixer"].append(fresh(mixed, make_mixer))
    figures: dict[str, Any] = {
        "model": model.name, "order": order, "tokens": len(tokens), "prefill_tokens": len(prefill),
        "runs": runs, "batches": len(work),
    }  # fmt: skip
    for way, found in seconds.items():
        figures[f"seconds_{way}"] = median(found)
        if way != "model_alone":
            pairs = zip(found, seconds["model_alone"], strict=True)
            figures[f"added_percent_{way}"] = 100 * (median(a / b for a, b in pairs) - 1)
    return figures


def forward(model: Model, work: Sequence[Batch]) -> None:
    """Compute the logits and drop them."""
    for batch in work:
        model.logits(batch.inputs)


def ahead(model: Model, work: Sequence[Batch], cache: NgramCache) -> None:
    """Let the cache read ahead in its own thread."""
    evidence = prefetch(cache.observe(batch.targets) for batch in work)
    for batch, _ in zip(work, evidence, strict=True):
        model.logits(batch.inputs)


def between(model: Model, work: Sequence[Batch], cache: NgramCache) -> None:
    """Observe after each forward pass, in the same thread."""
    for batch in work:
        model.logits(batch.inputs)
        cache.observe(batch.targets)


def mixed(model: Model, work: Sequence[Batch], mixer: Mixer) -> None:
    """Score: gather from the logits, observe, mix."""
    for batch in work:
        mixer.score(scored_logits(model.logits(batch.inputs), batch.is_scored), batch.targets)


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"{result['model']} over {result['tokens']:,} tokens of {result['data']} in "
        f"{result['batches']} batches,",
        f"order {result['order']}, the cache knew {result['prefill_tokens']:,} tokens before; "
        f"medians of {result['runs']}",
        "",
        f"{'':34}{'seconds':>9}  added to the model's",
        f"{'model alone':34}{result['seconds_model_alone']:>9.3f}",
    ]
    for way, name in (
        ("cache_ahead", "+ cache in a thread (prefetch)"),
        ("cache_between", "+ cache between the passes"),
        ("whole_mixer", "+ gathering, cache and mixer"),
    ):
        added = result[f"added_percent_{way}"]
        lines.append(f"{name:34}{result[f'seconds_{way}']:>9.3f}  {added:+.2f} %")
    return "\n".join(lines)
