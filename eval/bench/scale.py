"""``ngrammix bench scale``: how time and memory of NgramCache grow with the stream."""

import argparse
import math
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import BLOCK, add_stream, deliver, load_tokens
from eval.bench.peers import token_by_token
from eval.bench.peers.order2_sampler import synthesize
from eval.tables import make_folder
from ngrammix.cache.ngram_cache import NgramCache

MILLION = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    add_stream(parser)
    parser.add_argument(
        "--millions",
        type=float,
        nargs="+",
        default=[2, 8, 20, 62],
        metavar="N",
        help="where to look, in million tokens (default: 2 8 20 62; 62 takes about 5 GB of tables)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON (and a plot) under --out."""
    for n in arguments.millions:
        if not 1 / MILLION <= n < math.inf:
            raise ValueError(f"--millions must be >= 0.000001, got {n}; leave it out for 2 8 20 62")
    sizes = sorted(int(n * MILLION) for n in arguments.millions)
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    real = len(tokens)
    if real < 3:
        raise ValueError(f"the sampler needs at least 3 tokens, got {real} in {data}; use more")
    if real < sizes[-1]:
        tokens = np.concatenate([tokens, synthesize(tokens, sizes[-1] - real)])
    result = {"data": data, "real_tokens": real, "order": arguments.order} | measure(
        tokens, vocab_size, arguments.order, sizes
    )
    deliver(result, arguments, "scale.json", table)
    if arguments.out:
        plot(result, arguments.out / "scale.png")


def measure(
    tokens: NDArray[np.int64], vocab_size: int, order: int, sizes: list[int]
) -> dict[str, Any]:
    """Two passes over the longest stream, looked at where each size is reached.

    The second one finds the memory of the first: what a system takes to hand out gigabytes for the
    first time says more of the system than of the cache.
    """
    cache = NgramCache(vocab_size=vocab_size, order=order)
    cache.observe(tokens[:100])  # compiles
    cache.clear()
    first = walk(cache, tokens, sizes)
    rows: list[dict[str, float]] = []
    cache.clear()
    for size, cold, found in zip(sizes, first, walk(cache, tokens, sizes), strict=True):
        row = {"tokens": size, "seconds_first": cold["seconds"]} | found
        rows.append(row | {"tokens_per_second": size / found["seconds"]})

    def growth(key: str) -> float:
        """How many times as fast as the tokens that figure grew."""
        return rows[-1][key] / rows[0][key] * sizes[0] / sizes[-1]

    head = tokens[: sizes[0]]
    small = NgramCache(vocab_size=vocab_size, order=order)
    small.learn(head)
    peer = token_by_token.allocate(order, small)
    token_by_token.seconds(head[:100], peer)  # compiles it
    return {
        "sizes": rows,
        "time_growth_per_token_growth": growth("seconds"),
        "time_growth_per_token_growth_first": growth("seconds_first"),
        "token_by_token_tokens_per_second": sizes[0] / token_by_token.seconds(head, peer),
    }


def walk(cache: NgramCache, tokens: NDArray[np.int64], sizes: list[int]) -> list[dict[str, float]]:
    """Seconds of observing so far, bytes and n-grams a token, where each size is reached."""
    rows = []
    seconds, start = 0.0, 0
    with tqdm(total=sizes[-1], unit=" tokens", unit_scale=True, delay=2, disable=None) as bar:
        for size in sizes:
            while start < size:
                stop = min(start + BLOCK, size)
                began = perf_counter()
                cache.observe(tokens[start:stop])
                seconds += perf_counter() - began
                bar.update(stop - start)
                start = stop
            rows.append(
                {
                    "seconds": seconds,
                    "bytes_per_token": cache.nbytes / size,
                    "ngrams_per_token": len(cache) / size,
                }
            )
    return rows


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"NgramCache.observe, order {result['order']}, one thread, "
        f"{result['real_tokens']:,} tokens of {result['data']},",
        "after them an order-2 sampler over the same tokens (longer n-grams repeat less there)",
        "",
        f"{'tokens':>12}{'first pass':>12}{'second pass':>13}{'tokens/s':>12}{'bytes/token':>13}"
        f"{'n-grams/token':>15}",
    ]
    for row in result["sizes"]:
        lines.append(
            f"{row['tokens']:>12,}{row['seconds_first']:>10.2f} s{row['seconds']:>11.2f} s"
            f"{row['tokens_per_second']:>12,.0f}"
            f"{row['bytes_per_token']:>13.1f}{row['ngrams_per_token']:>15.2f}"
        )
    lines += [
        "",
        f"time grew {result['time_growth_per_token_growth']:.2f} times as fast as the tokens "
        f"({result['time_growth_per_token_growth_first']:.2f} times in the first pass, for which "
        "the system had yet to hand out the memory)",
        f"token by token: {result['token_by_token_tokens_per_second']:,.0f} tokens/s "
        "at the first size",
    ]
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw speed and memory over the length of the stream; needs the extra ``plot``."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print(f"no {path.name}: pip install 'ngrammix[plot]'", file=sys.stderr)  # noqa: T201
        return
    rows = result["sizes"]
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots(1, 2)
    x = [row["tokens"] / MILLION for row in rows]
    for ax, name, key, scale in (
        (axes[0], "million tokens / s", "tokens_per_second", MILLION),
        (axes[1], "bytes / token", "bytes_per_token", 1),
    ):
        ax.plot(x, [row[key] / scale for row in rows], "o-")
        ax.set(xscale="log", xlabel="million tokens", title=name, ylim=(0, None))
        ax.set_xticks(x, [f"{size:g}" for size in x])
        ax.minorticks_off()
    figure.suptitle(f"NgramCache.observe, order {result['order']}, {result['data']}", fontsize=9)
    figure.savefig(path, dpi=150)
