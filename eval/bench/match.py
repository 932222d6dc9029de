"""``ngrammix bench match``: speed of the match model, and how often it is right."""

import argparse
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers.python_dict import match
from eval.bench.rounds import timed
from eval.bench.stream import load_tokens, observe
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import MatchModel

LENGTHS = (7, 12, 16, 24, 32)


def measure(arguments: argparse.Namespace) -> Figures:
    """Tokens a second beside the peer's, and by length how often a match is right."""
    data, tokens, vocab_size = load_tokens(arguments.data)
    make = partial(MatchModel, vocab_size=vocab_size, min_length=arguments.min_length)
    make().observe(tokens[:100])  # compiles
    head = tokens[: arguments.dict_tokens].tolist()
    rate = len(tokens) / median(
        timed(partial(observe, make(), tokens)) for _ in range(arguments.runs)
    )
    dict_rate = len(head) / timed(partial(match, head, arguments.min_length))
    matches = make().observe(tokens)
    evidence = NgramCache(vocab_size=vocab_size, order=arguments.order).observe(tokens)
    longest = evidence.matched_order.astype(np.int64) - 1
    cache_hints = evidence.hint[np.maximum(longest, 0), np.arange(len(tokens))]
    cache_is_right = (cache_hints == tokens) & (longest > 0)
    is_right = matches.hint == tokens
    rows = []
    for length in (n for n in LENGTHS if n >= arguments.min_length):
        chosen = matches.length >= length
        shares = map(share, (is_right[chosen], cache_is_right[chosen]))
        accuracies = zip(("accuracy", "accuracy_of_the_cache_there"), shares, strict=True)
        row = {"least_length": length, "share_of_tokens": float(chosen.mean()), **dict(accuracies)}
        rows.append(row)
    return {
        "data": data, "tokens": len(tokens), "dict_tokens": len(head), "tokens_per_second": rate,
        "tokens_per_second_python_dict": dict_rate, "ratio_to_python_dict": rate / dict_rate,
        "bytes": make().nbytes + 4 * len(tokens), "lengths": rows,
    }  # fmt: skip


def share(chosen: NDArray[np.bool_]) -> float | None:
    """Share of the true values; None if there is no value."""
    return float(chosen.mean()) if len(chosen) else None


BENCH = Bench(
    options=OPTIONS["match"],
    measure=measure,
    report=(
        "MatchModel.observe on one thread: {tokens_per_second:,.0f} tokens/s in {bytes:,} bytes; a "
        "Python dict on {dict_tokens:,} tokens: {tokens_per_second_python_dict:,.0f} tokens/s "
        "({ratio_to_python_dict:.0f} times as slow)",
        Table("lengths", {
            "length": "{least_length:d} +", "of tokens": "{share_of_tokens:.2%}",
            "right": "{accuracy:.1%}", "cache right there": "{accuracy_of_the_cache_there:.1%}",
        }),
    ),
)  # fmt: skip
