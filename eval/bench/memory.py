"""``ngrammix bench memory``: the bits that a memory limit costs, and how much is evicted."""

import argparse
from math import log
from time import perf_counter

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.rounds import progress
from eval.bench.stream import load_tokens
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache

SHARES = (2, 4, 8)  # of the memory that the stream takes without a limit
CHECKED = 1 << 12  # tokens from one check whether the peer is full to the next


def measure(arguments: argparse.Namespace) -> Figures:
    """Bits a token within each share of the memory; the peer is emptied whenever it is full."""
    data, tokens, vocab_size = load_tokens(arguments.data)

    def score(limit: int | None, *, is_emptied: bool = False) -> Figures:
        """Bits a token of the cache alone, and its memory."""
        memory_limit = None if is_emptied else limit
        cache = NgramCache(vocab_size=vocab_size, order=arguments.order, memory_limit=memory_limit)
        nats = seconds = 0.0
        n_emptied = 0
        for start in range(0, len(tokens), CHECKED):
            if is_emptied and limit is not None and cache.nbytes > limit:
                cache.clear()
                n_emptied += 1
            began = perf_counter()
            evidence = cache.observe(tokens[start : start + CHECKED])
            seconds += perf_counter() - began
            nats -= float(log_target_probability(evidence, vocab_size).sum())
        stats = cache.stats()
        return {
            "bits_per_token": nats / log(2) / len(tokens),
            "bytes": cache.nbytes,
            "tokens_per_second": len(tokens) / seconds,
            "ngrams": len(cache),
            "evicted": sum(stats["evicted"]),
            "n_evictions": n_emptied + stats["n_evictions"],
        }

    unlimited = score(None)
    rows: list[Figures] = [{"memory": "unlimited", "policy": "none", **unlimited}]
    for share in progress(SHARES, "limits"):
        limit = unlimited["bytes"] // share
        for policy in ("evict", "empty"):
            figures = score(limit, is_emptied=policy == "empty")
            rows.append({"memory": f"1/{share}", "policy": policy, "limit_bytes": limit, **figures})
    for row in rows:
        row["added_bits_per_token"] = row["bits_per_token"] - unlimited["bits_per_token"]
    return {"data": data, "tokens": len(tokens), "limits": rows}


BENCH = Bench(
    options=OPTIONS["memory"],
    measure=measure,
    report=(
        "The cache alone; each share is of the memory that it takes without a limit",
        Table("limits", {
            "memory": "{memory}", "when full": "{policy}", "bits/token": "{bits_per_token:.4f}",
            "added": "{added_bits_per_token:+.4f}", "bytes": "{bytes:,}", "n-grams": "{ngrams:,}",
            "evicted": "{evicted:,}", "evictions": "{n_evictions:,}",
            "tokens/s": "{tokens_per_second:,.0f}",
        }),
    ),
)  # fmt: skip
