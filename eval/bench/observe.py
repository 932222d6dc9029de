"""``ngrammix bench observe``: NgramCache.observe against its peers, in one run."""

import argparse
import os
import platform
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench import python_dict, token_walk
from eval.bench.common import BLOCK, add_stream, deliver, load_tokens, timed
from eval.report import make_folder
from ngrammix.cache import NgramCache
from ngrammix.evidence import Evidence

DICT_PEERS = {
    "Python dict": python_dict.walk_plain,
    "Python dict, tuned": python_dict.walk_tuned,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    add_stream(parser)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--dict-tokens",
        type=int,
        default=200_000,
        metavar="N",
        help="tokens for the Python dicts, which slow down as they grow (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    for option in ("runs", "dict_tokens"):
        if (value := getattr(arguments, option)) < 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name} must be >= 1, got {value}; leave it out for the default")
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    figures = measure(tokens, vocab_size, arguments.order, arguments.runs, arguments.dict_tokens)
    result = {"data": data, "tokens": len(tokens), "vocab_size": vocab_size} | figures
    deliver(result, arguments, "observe.json", table)


def measure(
    tokens: NDArray[np.int64], vocab_size: int, order: int, runs: int, dict_tokens: int
) -> dict[str, Any]:
    """Tokens a second and ratios: a warm-up, then `runs` rounds in turn; medians."""
    compile_seconds = timed(lambda: observe(tokens[:100], vocab_size, order))
    cache = NgramCache(order=order, vocab_size=vocab_size)
    cache.learn(tokens)
    peer_compile_seconds = timed(lambda: walk(tokens[:100], order, cache))
    walk(tokens, order, cache)  # warm-up: the memory of both was touched once

    rates: dict[str, list[float]] = {"observe": [], "token by token": []}
    for _ in tqdm(range(runs), desc="rounds", delay=2, disable=None):
        rates["observe"].append(len(tokens) / timed(lambda: observe(tokens, vocab_size, order)))
        rates["token by token"].append(len(tokens) / walk(tokens, order, cache))
    # Last and once: millions of small objects leave no memory as it was for the rounds.
    head = tokens[:dict_tokens].tolist()
    for peer, walk_dict in tqdm(DICT_PEERS.items(), desc="dicts", delay=2, disable=None):
        rates[peer] = [len(head) / timed(partial(walk_dict, head, order))]

    figures: dict[str, Any] = {"order": order, "runs": runs, "dict_tokens": len(head)}
    for peer, found in rates.items():
        ours = rates["observe"] if len(found) == runs else [median(rates["observe"])]
        figures[f"tokens_per_second_{key(peer)}"] = median(found)
        figures[f"ratio_to_{key(peer)}"] = median(a / b for a, b in zip(ours, found, strict=True))
    return figures | {
        "ngrams": len(cache),
        "bytes": cache.nbytes,
        "compile_seconds": compile_seconds,
        "peer_compile_seconds": peer_compile_seconds,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def key(peer: str) -> str:
    """Name of a peer as part of a JSON key."""
    return peer.replace(",", "").replace(" ", "_").lower()


def observe(tokens: NDArray[np.int64], vocab_size: int, order: int) -> None:
    """Ours, from an empty cache, growth included."""
    cache = NgramCache(order=order, vocab_size=vocab_size)
    for start in range(0, len(tokens), BLOCK):
        cache.observe(tokens[start : start + BLOCK])


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
    lines = [
        f"NgramCache.observe, order {result['order']}, {result['tokens']:,} tokens of "
        f"{result['data']}, one thread, medians of {result['runs']}",
        "",
        f"{'':20}{'tokens/s':>12}  observe is",
    ]
    for peer in ("observe", "token by token", *DICT_PEERS):
        ratio = (
            f"  {result[f'ratio_to_{key(peer)}']:.2f} times as fast" if peer != "observe" else ""
        )
        lines.append(f"{peer:20}{result[f'tokens_per_second_{key(peer)}']:>12,.0f}{ratio}")
    lines += [
        "",
        f"{result['ngrams']:,} n-grams in {result['bytes']:,} bytes",
        f"compiling or loading the kernels took {result['compile_seconds']:.2f} s more "
        f"(token by token: {result['peer_compile_seconds']:.2f} s)",
        f"the dicts walked {result['dict_tokens']:,} tokens, once; they slow down as they grow",
    ]
    return "\n".join(lines)
