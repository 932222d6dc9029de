"""``ngrammix bench observe``: NgramCache.observe against its peers, in one run."""

import argparse
import os
import platform
from functools import partial
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import (
    BLOCK,
    add_stream,
    at_least_one,
    deliver,
    load_tokens,
    observe,
    timed,
)
from eval.bench.observe_table import key, table
from eval.bench.peers import kenlm, numpy_counts, python_dict, random_reads, token_by_token
from eval.bench.peers.numpy_counts import HashedCounts
from eval.tables import make_folder
from ngrammix.cache.ngram_cache import NgramCache

OURS = {"observe": 1, "two threads": 2}  # threads
DICT_PEERS = {
    "Python dict": python_dict.walk_plain,
    "Python dict, tuned": python_dict.walk_tuned,
}


class Make(Protocol):
    """What makes an empty cache of the order and vocabulary of this run."""

    def __call__(self, *, n_threads: int = 1) -> NgramCache:
        """Return the cache."""


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
    at_least_one(arguments, "runs", "dict_tokens")
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    figures = measure(tokens, vocab_size, arguments.order, arguments.runs, arguments.dict_tokens)
    result = {"data": data, "tokens": len(tokens), "vocab_size": vocab_size} | figures
    deliver(result, arguments, "observe.json", table)


def measure(
    tokens: NDArray[np.int64], vocab_size: int, order: int, runs: int, dict_tokens: int
) -> dict[str, Any]:
    """Tokens a second, ratios and limits: a warm-up, then `runs` rounds in turn; medians."""
    make = partial(NgramCache, vocab_size=vocab_size, order=order)
    compile_seconds = timed(lambda: observe(make(), tokens[:100]))
    cache = same_bits(tokens, make)
    state = token_by_token.allocate(order, cache)
    peer_compile_seconds = token_by_token.seconds(tokens[:100], state)
    counts = HashedCounts(order)
    table_bytes = random_reads.table_bytes(cache)
    figures: dict[str, Any] = {
        "order": order,
        "runs": runs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "same_bits": True,
        "ngrams": len(cache),
        "bytes": cache.nbytes,
        "compile_seconds": compile_seconds,
        "peer_compile_seconds": peer_compile_seconds,
    }
    del cache  # its memory is the rounds' now
    rounds = [
        one_round(tokens, make, state, counts)
        for _ in tqdm(range(runs), desc="rounds", delay=2, disable=None)
    ]
    del state, counts
    figures |= compare(rounds, len(tokens)) | random_reads.measure(table_bytes)
    ours = figures["tokens_per_second_observe"]
    for limit in ("limit", "strict_limit"):
        figures[f"ratio_to_{limit}"] = ours / figures[f"{limit}_tokens_per_second"]
    figures |= kenlm.measure(tokens, vocab_size, order)
    # Last and once: millions of small objects leave no memory as it was for the others.
    head = tokens[:dict_tokens].tolist()
    figures["dict_tokens"] = len(head)
    for peer, walk_dict in tqdm(DICT_PEERS.items(), desc="dicts", delay=2, disable=None):
        rate = len(head) / timed(partial(walk_dict, head, order))
        figures[f"tokens_per_second_{key(peer)}"] = rate
        figures[f"ratio_to_{key(peer)}"] = ours / rate
    return figures


def same_bits(tokens: NDArray[np.int64], make: Make) -> NgramCache:
    """Cache that observed all tokens on one thread.

    Raises
    ------
    RuntimeError
        If two threads found other evidence.
    """
    one, two = make(), make(n_threads=2)
    for start in range(0, len(tokens), BLOCK):
        block = tokens[start : start + BLOCK]
        ours, theirs = one.observe(block), two.observe(block)
        for name in ("_columns", "discounts"):
            if not np.array_equal(getattr(ours, name), getattr(theirs, name)):
                raise RuntimeError(
                    f"one and two threads must find the same evidence, got other {name.strip('_')} "
                    f"in the {len(block)} tokens from {start} on; this is a bug of ngrammix: "
                    "please report it with the stream"
                )
    return one


def one_round(
    tokens: NDArray[np.int64], make: Make, state: token_by_token.State, counts: HashedCounts
) -> dict[str, float]:
    """Seconds of each peer, in turn.

    Cold: a fresh cache; all its memory is touched for the first time. Warm, without a word: the
    same cache, cleared but with its pages, as the peers find theirs. Both grow their index.
    """
    seconds = {}
    for name, n_threads in OURS.items():
        cache = make(n_threads=n_threads)
        seconds[f"{name} cold"] = timed(partial(observe, cache, tokens))
        cache.clear()
        seconds[name] = timed(partial(observe, cache, tokens))
    del cache
    seconds["token by token"] = token_by_token.seconds(tokens, state)
    unsigned = tokens.astype(np.uint64)
    for name, chunk in numpy_counts.CHUNKS.items():
        counts.clear()
        seconds[name] = timed(partial(numpy_counts.walk, unsigned, counts, chunk))
    return seconds


def compare(rounds: list[dict[str, float]], n_tokens: int) -> dict[str, float]:
    """Medians of tokens a second, and of the ratios of the same round."""

    def ratio(ours: str, peer: str) -> float:
        return median(seconds[peer] / seconds[ours] for seconds in rounds)

    names = {name: name for name in rounds[0]} | {"observe cold": "cold"}
    figures = {
        f"tokens_per_second_{key(name)}": n_tokens / median(seconds[peer] for seconds in rounds)
        for peer, name in names.items()
    }
    for peer in ("token by token", *numpy_counts.CHUNKS):
        figures[f"ratio_to_{key(peer)}"] = ratio("observe", peer)
    return figures | {
        "ratio_two_threads_to_one": ratio("two threads", "observe"),
        "ratio_two_threads_to_token_by_token": ratio("two threads", "token by token"),
    }
