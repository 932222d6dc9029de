"""``ngrammix bench memory``: the bits that a memory limit costs, and how many n-grams it evicts."""

import argparse
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import add_stream, deliver, load_tokens
from eval.tables import make_folder
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache

SHARES = (2, 4, 8)  # of the memory that the stream takes without a limit
PIECE = 1 << 12  # tokens between two looks at whether the peer is full


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    add_stream(parser)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    rows = measure(tokens, vocab_size, arguments.order)
    result = {"data": data, "tokens": len(tokens), "order": arguments.order, "limits": rows}
    deliver(result, arguments, "memory.json", table)


def measure(tokens: NDArray[np.int64], vocab_size: int, order: int) -> list[dict[str, Any]]:
    """What each share of the memory costs; the peer is a cache that is emptied when it is full."""

    def score(limit: int | None, *, is_emptied: bool = False) -> dict[str, Any]:
        """Bits a token of the cache alone, and what it took."""
        cache = NgramCache(
            order=order, vocab_size=vocab_size, memory_limit=None if is_emptied else limit
        )
        nats = seconds = 0.0
        n_evictions = 0
        for start in range(0, len(tokens), PIECE):
            if is_emptied and limit is not None and cache.nbytes > limit:
                cache.clear()
                n_evictions += 1
            began = perf_counter()
            evidence = cache.observe(tokens[start : start + PIECE])
            seconds += perf_counter() - began
            nats -= float(log_target_probability(evidence, vocab_size).sum())
        stats = cache.stats()
        return {
            "bits_per_token": nats / np.log(2) / len(tokens),
            "bytes": cache.nbytes,
            "tokens_per_second": len(tokens) / seconds,
            "ngrams": len(cache),
            "evicted": sum(stats["evicted"]),
            "n_evictions": n_evictions + stats["n_evictions"],
        }

    free = score(None)
    rows = [{"memory": "unlimited", "policy": "none", "added_bits_per_token": 0.0} | free]
    for share in tqdm(SHARES, desc="limits", delay=2, disable=None):
        limit = free["bytes"] // share
        for policy in ("evict", "empty"):
            row = score(limit, is_emptied=policy == "empty")
            added = row["bits_per_token"] - free["bits_per_token"]
            rows.append(
                {"memory": f"1/{share}", "policy": policy, "limit_bytes": limit}
                | {"added_bits_per_token": added}
                | row
            )
    return rows


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"the cache alone, order {result['order']}, {result['tokens']:,} tokens of "
        f"{result['data']}",
        "",
        f"{'memory':10}{'when full':10}{'bits/token':>11}{'added':>9}{'MiB':>8}{'n-grams':>12}"
        f"{'evicted':>12}{'evictions':>10}{'tokens/s':>12}",
    ]
    for row in result["limits"]:
        lines.append(
            f"{row['memory']:10}{row['policy']:10}{row['bits_per_token']:>11.4f}"
            f"{row['added_bits_per_token']:>+9.4f}{row['bytes'] / 2**20:>8.0f}"
            f"{row['ngrams']:>12,}{row['evicted']:>12,}{row['n_evictions']:>10,}"
            f"{row['tokens_per_second']:>12,.0f}"
        )
    return "\n".join(lines)
