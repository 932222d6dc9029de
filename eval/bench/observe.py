"""``ngrammix bench observe``: NgramCache.observe beside its peers, in one run."""

import argparse
import os
import platform
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table, rows_of
from eval.bench.options import OPTIONS
from eval.bench.peers import kenlm, numpy_counts, python_dict, random_reads
from eval.bench.peers.numpy_counts import HashedCounts
from eval.bench.peers.token_by_token import TokenByToken
from eval.bench.rounds import Rounds, key, progress, timed
from eval.bench.stream import BLOCK, load_tokens, observe
from ngrammix.cache.ngram_cache import NgramCache

MakeCache = Callable[..., NgramCache]  # takes n_threads

OURS = {"observe": 1, "two threads": 2}  # threads
DICT_PEERS = {
    "Python dict": python_dict.walk_plain,
    "Python dict, tuned": python_dict.walk_tuned,
}
LABELS = {
    "observe": "observe, one thread",
    "two_threads": "observe, two threads",
    "token_by_token": "token by token [1]",
    **{key(peer): f"numpy, chunks of {n:,} [2]" for peer, n in numpy_counts.CHUNKS.items()},
    **{peer: f"KenLM, {way} [3]" for peer, way in kenlm.WAYS.items()},
    **{key(peer): f"{peer} [4]" for peer in DICT_PEERS},
    "limit": "limit of the memory system [5]",
    "strict_limit": "the same, order by order [6]",
}


def measure(arguments: argparse.Namespace) -> Figures:
    """Tokens a second of everyone, and the ratios of observe to them in the same round."""
    data, tokens, vocab_size = load_tokens(arguments.data)
    order: int = arguments.order
    make = partial(NgramCache, vocab_size=vocab_size, order=order)
    compile_seconds = timed(lambda: observe(make(), tokens[:100]))
    cache, places = observe_on_two_threads(tokens, make)
    peer = TokenByToken(order, tokens)
    peer_compile_seconds = peer.seconds(tokens[:100])
    counts = HashedCounts(order)
    table_bytes = random_reads.table_bytes(cache)
    figures: Figures = {
        "data": data, "tokens": len(tokens), "vocab_size": vocab_size,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores", "same_bits": True,
        "ngrams": len(cache), "bytes": cache.nbytes, "compile_seconds": compile_seconds,
        "peer_compile_seconds": peer_compile_seconds,
    }  # fmt: skip
    del cache  # frees memory for the rounds
    runs = progress(range(arguments.runs), "rounds")
    rounds = Rounds([one_round(tokens, make, peer, counts) for _ in runs])
    del peer, counts
    for name, rate in rounds.rates(len(tokens)).items():
        figures[f"tokens_per_second_{'cold' if name == 'observe cold' else key(name)}"] = rate
    for name in ("token by token", *numpy_counts.CHUNKS):
        figures[f"ratio_to_{key(name)}"] = rounds.ratio(name, "observe")
    figures["ratio_two_threads_to_one"] = rounds.ratio("observe", "two threads")
    figures["ratio_two_threads_to_token_by_token"] = rounds.ratio("token by token", "two threads")
    figures |= random_reads.measure(table_bytes, places)
    rate = figures["tokens_per_second_observe"]
    for limit in ("limit", "strict_limit"):
        figures[f"ratio_to_{limit}"] = rate / figures[f"tokens_per_second_{limit}"]
    figures |= kenlm.measure(tokens, vocab_size, order)
    # Last, and once: millions of small objects fragment the memory that the others would use.
    head = tokens[: arguments.dict_tokens].tolist()
    figures["dict_tokens"] = len(head)
    for name, walk in progress(DICT_PEERS.items(), "dicts"):
        figures[f"tokens_per_second_{key(name)}"] = len(head) / timed(partial(walk, head, order))
        figures[f"ratio_to_{key(name)}"] = rate / figures[f"tokens_per_second_{key(name)}"]
    return figures


def observe_on_two_threads(
    tokens: NDArray[np.int64], make: MakeCache
) -> tuple[NgramCache, list[float]]:
    """Cache that observed all tokens on one thread; look-ups a token, of each order.

    Raises
    ------
    RuntimeError
        If two threads give other evidence.
    """
    one, two = make(), make(n_threads=2)
    places = np.zeros(one.order)  # an n-gram is looked up where its suffix occurred before
    for start in range(0, len(tokens), BLOCK):
        block = tokens[start : start + BLOCK]
        evidence, other = one.observe(block), two.observe(block)
        places += evidence._n_entries
        for name in ("_columns", "discounts"):
            if not np.array_equal(getattr(evidence, name), getattr(other, name)):
                raise RuntimeError(
                    f"one and two threads must find the same evidence, got other "
                    f"{name.strip('_')} in the {len(block)} tokens from {start} on; this is a bug "
                    "of ngrammix: please report it with the stream"
                )
    return one, (places / len(tokens)).tolist()


def one_round(
    tokens: NDArray[np.int64],
    make: MakeCache,
    peer: TokenByToken,
    counts: HashedCounts,
) -> dict[str, float]:
    """Seconds of each way, one after the other.

    Cold: a new cache touches all its memory for the first time. Otherwise: the same cache, cleared,
    finds its pages as the peers find theirs. Both grow their index.
    """
    seconds = {}
    for name, n_threads in OURS.items():
        cache = make(n_threads=n_threads)
        seconds[f"{name} cold"] = timed(partial(observe, cache, tokens))
        cache.clear()
        seconds[name] = timed(partial(observe, cache, tokens))
    del cache
    seconds["token by token"] = peer.seconds(tokens)
    unsigned = tokens.astype(np.uint64)
    for name, chunk in numpy_counts.CHUNKS.items():
        counts.clear()
        seconds[name] = timed(partial(numpy_counts.walk, unsigned, counts, chunk))
    return seconds


def rows_of_peers(figures: Figures) -> list[Figures]:
    """A row for each peer; the caches of this package have their speed in new memory too."""
    rows = rows_of(figures, LABELS, "tokens_per_second", "ratio_to")
    rows[0]["cold"] = figures["tokens_per_second_cold"]
    rows[1]["cold"] = figures["tokens_per_second_two_threads_cold"]
    return rows


BENCH = Bench(
    options=OPTIONS["observe"],
    measure=measure,
    report=(
        Table(rows_of_peers, {
            "": "{name}", "tokens/s": "{tokens_per_second:,.0f}", "cold": "{cold:,.0f}",
            "observe is": "{ratio_to:.2f} x",
        }),
        "Two threads are {ratio_two_threads_to_one:.2f} times as fast as one, with the same bits; "
        "{ratio_two_threads_to_token_by_token:.2f} times as fast as token by token. {ngrams:,} "
        "n-grams take {bytes:,} bytes. Compiling or loading the kernels took "
        "{compile_seconds:.2f} s more (token by token: {peer_compile_seconds:.2f} s).",
        "tokens/s: the memory was touched before; cold: the first pass of a new cache. Both "
        "include the growth of the index.",
        "[1] exact tables with a row for every n-gram, allocated at their final size",
        "[2] counts of contexts and n-grams before the chunk, without hints or ages; the hash is "
        f"not verified: n-grams in the same of the 2**{numpy_counts.BITS} buckets share a count",
        "[3] {kenlm}; a frozen model of the head of the stream, of order {kenlm_order}, gives one "
        "probability a token, and learns nothing; BaseScore is a call a token, full_scores a "
        "generator, score one call for the sum",
        "observe at the order of KenLM, on the same {kenlm_tokens:,} tokens: "
        "{tokens_per_second_observe_beside_kenlm:,.0f} tokens/s; the ratios are to this",
        "[4] {dict_tokens:,} tokens, once; slows down as it grows",
        "[5] {reads_per_second:,.0f} random reads/s of one thread over the {table_bytes:,} bytes "
        "of the tables; a token needs {reads_per_token:.1f}: one line of the index and one row for "
        "each context that occurred before",
        "[6] each order reads from its own index and rows; small ones fit the caches of the "
        "processor",
    ),
)  # fmt: skip
