"""``ngrammix bench scale``: how time and memory of NgramCache grow with the stream."""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers.order2_sampler import synthesize
from eval.bench.peers.token_by_token import TokenByToken
from eval.bench.rounds import progress
from eval.bench.stream import BLOCK, load_tokens
from eval.notes import note
from eval.plots import new_figure
from ngrammix.atomic import replaced
from ngrammix.cache.ngram_cache import NgramCache

MILLION = 1_000_000


def measure(arguments: argparse.Namespace) -> Figures:
    """Two passes over the longest stream, with figures at each size.

    The second pass finds the memory of the first one: the time that a system takes to hand out
    gigabytes says more of the system than of the cache.
    """
    order: int = arguments.order
    sizes = sorted(max(1, int(n * MILLION)) for n in arguments.millions)
    data, tokens, vocab_size = load_tokens(arguments.data)
    n_real = len(tokens)
    if n_real < 3:
        raise ValueError(f"the sampler needs at least 3 tokens, got {n_real} in {data}; use more")
    if n_real < sizes[-1]:
        tokens = np.concatenate([tokens, synthesize(tokens, sizes[-1] - n_real)])
    cache = NgramCache(vocab_size=vocab_size, order=order)
    cache.observe(tokens[:100])  # compiles
    cache.clear()
    first = walk(cache, tokens, sizes)
    cache.clear()
    rows: list[Figures] = [
        {
            "tokens": size, "seconds_first": cold["seconds"], **warm,
            "tokens_per_second": size / warm["seconds"],
        }
        for size, cold, warm in zip(sizes, first, walk(cache, tokens, sizes), strict=True)
    ]  # fmt: skip

    def growth(key: str) -> float:
        """Ratio of the growth of a figure to that of the tokens."""
        ratio: float = rows[-1][key] / rows[0][key] * sizes[0] / sizes[-1]
        return ratio

    head = tokens[: sizes[0]]
    peer = TokenByToken(order, head)
    return {
        "data": data,
        "real_tokens": n_real,
        "sizes": rows,
        "time_growth_per_token_growth": growth("seconds"),
        "time_growth_per_token_growth_first": growth("seconds_first"),
        "token_by_token_tokens_per_second": sizes[0] / peer.seconds(head),
    }


def walk(cache: NgramCache, tokens: NDArray[np.int64], sizes: list[int]) -> list[Figures]:
    """At each size: seconds of observing from the start, bytes and n-grams a token."""
    rows: list[Figures] = []
    seconds = 0.0
    stops = sorted({*range(BLOCK, sizes[-1], BLOCK), *sizes})
    for start, stop in progress(list(zip([0, *stops], stops, strict=False)), "blocks"):
        began = perf_counter()
        cache.observe(tokens[start:stop])
        seconds += perf_counter() - began
        row = {"bytes_per_token": cache.nbytes / stop, "ngrams_per_token": len(cache) / stop}
        rows += [{"seconds": seconds} | row] * sizes.count(stop)
    return rows


def draw(figures: Figures, folder: Path) -> None:
    """Draw speed and memory over the length of the stream, if matplotlib is installed."""
    path = folder / "scale.png"
    try:
        figure = new_figure((7, 3))
    except ValueError as error:
        note(f"no {path.name}: {error}")
        return
    rows = figures["sizes"]
    x = [row["tokens"] / MILLION for row in rows]
    for ax, name, key, scale in zip(
        figure.subplots(1, 2), ("million tokens / s", "bytes / token"),
        ("tokens_per_second", "bytes_per_token"), (MILLION, 1), strict=True,
    ):  # fmt: skip
        ax.plot(x, [row[key] / scale for row in rows], "o-")
        ax.set(xscale="log", xlabel="million tokens", title=name, ylim=(0, None))
        ax.set_xticks(x, [f"{size:g}" for size in x])
        ax.minorticks_off()
    figure.suptitle(f"NgramCache.observe, order {figures['order']}, {figures['data']}", fontsize=9)
    with replaced(path, "pictures") as file:
        figure.savefig(file, format="png", dpi=150)


BENCH = Bench(
    options=OPTIONS["scale"],
    measure=measure,
    draw=draw,
    report=(
        "NgramCache.observe on one thread over {real_tokens:,} tokens of the data, then over an "
        "order-2 sampler of the same tokens, in which longer n-grams repeat less",
        Table("sizes", {
            "tokens": "{tokens:,}", "first pass": "{seconds_first:.2f} s",
            "second pass": "{seconds:.2f} s", "tokens/s": "{tokens_per_second:,.0f}",
            "bytes/token": "{bytes_per_token:.1f}", "n-grams/token": "{ngrams_per_token:.2f}",
        }),
        "Time grew {time_growth_per_token_growth:.2f} times as fast as the tokens "
        "({time_growth_per_token_growth_first:.2f} times in the first pass, in which the system "
        "hands out the memory). Token by token: {token_by_token_tokens_per_second:,.0f} tokens/s "
        "at the first size.",
    ),
)  # fmt: skip
