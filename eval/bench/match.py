"""``ngrammix bench match``: speed of the match model, and how often it is right."""

import argparse
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import add_stream, at_least_one, deliver, load_tokens, observe, timed
from eval.tables import make_folder
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.match_model import MatchModel

LENGTHS = (7, 12, 16, 24, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    add_stream(parser)
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--min-length",
        type=int,
        default=7,
        metavar="N",
        help="tokens of the shortest match (default: %(default)s)",
    )
    parser.add_argument(
        "--dict-tokens",
        type=int,
        default=200_000,
        metavar="N",
        help="tokens for the Python dict (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "runs", "dict_tokens")
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    figures = measure(tokens, vocab_size, arguments)
    deliver({"data": data, "tokens": len(tokens)} | figures, arguments, "match.json", table)


def measure(
    tokens: NDArray[np.int64], vocab_size: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Tokens a second beside the peer's, and per length how often a match is right."""
    make = partial(MatchModel, vocab_size=vocab_size, min_length=arguments.min_length)
    make().observe(tokens[:100])  # compiles
    head = tokens[: arguments.dict_tokens].tolist()
    rates = [len(tokens) / timed(partial(observe, make(), tokens)) for _ in range(arguments.runs)]
    dict_rate = len(head) / timed(partial(walk_dict, head, arguments.min_length))
    matches = make().observe(tokens)
    evidence = NgramCache(order=arguments.order, vocab_size=vocab_size).observe(tokens)
    longest = evidence.matched_order.astype(np.int64) - 1
    places = np.maximum(longest, 0), np.arange(len(tokens))
    cache_is_right = (evidence.hint[places] == tokens) & (longest > 0)
    is_right = matches.hint == tokens
    rows = []
    for least in (n for n in LENGTHS if n >= arguments.min_length):
        chosen = matches.length >= least
        n = int(chosen.sum())
        rows.append(
            {
                "least_length": least,
                "share_of_tokens": n / len(tokens),
                "accuracy": float(is_right[chosen].mean()) if n else None,
                "accuracy_of_the_cache_there": float(cache_is_right[chosen].mean()) if n else None,
            }
        )
    return {
        "order": arguments.order,
        "min_length": arguments.min_length,
        "runs": arguments.runs,
        "dict_tokens": len(head),
        "tokens_per_second": median(rates),
        "tokens_per_second_python_dict": dict_rate,
        "ratio_to_python_dict": median(rates) / dict_rate,
        "bytes": make().nbytes + 4 * len(tokens),
        "lengths": rows,
    }


def walk_dict(tokens: list[int], min_length: int) -> list[tuple[int, int]]:
    """(length, hint) of the same match from a dict of the last place of each context."""
    places: dict[tuple[int, ...], int] = {}
    found = []
    pointer = length = 0
    for i, token in enumerate(tokens):
        found.append((length, tokens[pointer] if length else 0))
        length = length + 1 if length and tokens[pointer] == token else 0
        pointer += 1
        if i + 1 < min_length:
            continue
        context = tuple(tokens[i + 1 - min_length : i + 1])
        place = places.get(context, 0)
        places[context] = i + 1
        if place and not length:
            pointer, length = place, min_length
            while length < place and tokens[place - 1 - length] == tokens[i - length]:
                length += 1
    return found


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"MatchModel.observe, matches of {result['min_length']} tokens or more, "
        f"{result['tokens']:,} tokens of {result['data']}, one thread, "
        f"medians of {result['runs']}",
        "",
        f"{result['tokens_per_second']:>12,.0f} tokens/s in {result['bytes']:,} bytes",
        f"{result['tokens_per_second_python_dict']:>12,.0f} tokens/s: a Python dict, "
        f"{result['dict_tokens']:,} tokens (ours is {result['ratio_to_python_dict']:.0f} times as "
        "fast)",
        "",
        f"{'length':>8}{'of tokens':>12}{'right':>9}  the cache's hint there, order "
        f"{result['order']}",
    ]
    for row in result["lengths"]:
        right, cache = (
            "-" if row[key] is None else f"{100 * row[key]:.1f} %"
            for key in ("accuracy", "accuracy_of_the_cache_there")
        )
        lines.append(
            f"{row['least_length']:>6} +{100 * row['share_of_tokens']:>10.2f} %{right:>9}{cache:>9}"
        )
    return "\n".join(lines)
