"""``ngrammix bench observe``: NgramCache.observe against its peers, in one run."""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench import python_dict, token_walk
from eval.data import Document, read_shard
from eval.models import load_demo
from ngrammix.cache import NgramCache
from ngrammix.evidence import Evidence

BLOCK = 1 << 16  # tokens of evidence at a time, for every peer alike


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--data",
        type=Path,
        metavar="SHARD",
        help="Parameter Golf token shard (default: the embedded text in the demo's tokens)",
    )
    parser.add_argument("--order", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--dict-tokens",
        type=int,
        default=50_000,
        metavar="N",
        help="tokens that the Python dict walks: few, where it is fastest (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    if arguments.runs < 1 or arguments.dict_tokens < 1:
        raise ValueError("--runs and --dict-tokens must be >= 1")
    data, tokens, vocab_size = load_tokens(arguments.data)
    figures = measure(tokens, vocab_size, arguments.order, arguments.runs, arguments.dict_tokens)
    result = {"data": data, "tokens": len(tokens), "vocab_size": vocab_size} | figures
    text = json.dumps(result, indent=2) + "\n"
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "observe.json").write_text(text, encoding="utf-8")
    print(text if arguments.json else table(result))  # noqa: T201


def load_tokens(shard: Path | None) -> tuple[str, NDArray[np.int64], int]:
    """(name, tokens (T,), V) of the shard, or of the embedded text."""
    if shard is not None:
        tokens = read_shard(shard).astype(np.int64)
        return shard.name, tokens, int(tokens.max()) + 1
    from eval.demo.corpus import reference_text

    model = load_demo()
    tokens, _ = model.encode(Document("the Python language reference", reference_text()))
    return "the Python language reference", tokens, model.vocab_size


def measure(
    tokens: NDArray[np.int64], vocab_size: int, order: int, runs: int, dict_tokens: int
) -> dict[str, Any]:
    """Seconds and ratios: one warm-up, then `runs` rounds of every peer in turn; medians."""
    compile_seconds = timed(lambda: observe(tokens[:100], vocab_size, order))[0]
    sizes = observe(tokens, vocab_size, order)
    peer_compile_seconds = timed(lambda: walk(tokens[:100], order, sizes))[0]
    walk(tokens, order, sizes)  # warm-up: the memory of both was touched once

    head = tokens[:dict_tokens]
    seconds: dict[str, list[float]] = {"observe": [], "token by token": [], "Python dict": []}
    for _ in range(runs):
        seconds["observe"].append(timed(lambda: observe(tokens, vocab_size, order))[0])
        seconds["token by token"].append(walk(tokens, order, sizes))
        seconds["Python dict"].append(timed(lambda: python_dict.walk(head.tolist(), order))[0])
    rates = {
        peer: [(len(head) if peer == "Python dict" else len(tokens)) / s for s in times]
        for peer, times in seconds.items()
    }
    ratios = {
        f"ratio_to_{peer.replace(' ', '_').lower()}": median(
            ours / theirs for ours, theirs in zip(rates["observe"], rates[peer], strict=True)
        )
        for peer in ("token by token", "Python dict")
    }
    return {
        "order": order,
        "runs": runs,
        "dict_tokens": len(head),
        **{f"tokens_per_second_{k.replace(' ', '_').lower()}": median(v) for k, v in rates.items()},
        **ratios,
        "ngrams": len(sizes),
        "bytes": sizes.nbytes,
        "compile_seconds": compile_seconds,
        "peer_compile_seconds": peer_compile_seconds,
        "processor": platform.processor() or platform.machine(),
    }


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """(seconds, what the work returned)."""
    started = perf_counter()
    result = work()
    return perf_counter() - started, result


def observe(tokens: NDArray[np.int64], vocab_size: int, order: int) -> NgramCache:
    """Ours, from an empty cache, growth included."""
    cache = NgramCache(order=order, vocab_size=vocab_size)
    for start in range(0, len(tokens), BLOCK):
        cache.observe(tokens[start : start + BLOCK])
    return cache


def walk(tokens: NDArray[np.int64], order: int, sizes: NgramCache) -> float:
    """Seconds of the same tables walked token by token, given their final size beforehand."""
    state = token_walk.allocate(order, sizes)
    started = perf_counter()
    for start in range(0, len(tokens), BLOCK):
        block = tokens[start : start + BLOCK]
        token_walk.observe(block, state, Evidence.allocate(order, len(block)), start)
    return perf_counter() - started


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    peers = ["observe", "token by token", "Python dict"]
    lines = [
        f"NgramCache.observe, order {result['order']}, {result['tokens']:,} tokens of "
        f"{result['data']}, medians of {result['runs']}",
        "",
        f"{'':24}{'tokens/s':>12}  observe is",
    ]
    for peer in peers:
        key = peer.replace(" ", "_").lower()
        ratio = result.get(f"ratio_to_{key}")
        rate = result[f"tokens_per_second_{key}"]
        lines.append(f"{peer:24}{rate:>12,.0f}" + (f"  {ratio:.2f} times as fast" if ratio else ""))
    lines += [
        "",
        f"{result['ngrams']:,} n-grams in {result['bytes']:,} bytes; compiling or loading the "
        f"kernels took {result['compile_seconds']:.2f} s more (the peer: "
        f"{result['peer_compile_seconds']:.2f} s); the dict walked {result['dict_tokens']:,}",
    ]
    return "\n".join(lines)
