"""Eviction from a full cache: the least recently used n-grams go, and counts are halved.

What occurred once and began before a horizon is forgotten: its rows, and the tokens of the stream
before the horizon, as if a document began there. What occurred more than once is kept RETENTION
times as long. An n-gram that stays keeps its contexts and its suffix, and every context loses
exactly the counts of the followers that go. So all sums stay exact.

The counts of the n-grams that stay are halved, rounded up. An evicted n-gram that comes back is new
again, so it raises the Kneser-Ney count of its suffix once more. Without halving, such counts would
grow with every eviction, and the estimator would become worse than that of a cache emptied each
time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.replay import stored_chunks
from ngrammix.cache.store import NgramStore
from ngrammix.cache.table import UNIT_BYTES, Table
from ngrammix.kernels import eviction as kernel
from ngrammix.kernels import index, replay
from ngrammix.kernels.index import BEFORE_FIRST, START
from ngrammix.types import Nodes

N_LEVELS = 4096  # bins of the histogram of ages
KEPT_FRACTION = 0.5  # of the bytes, at most, stay after an eviction
RETENTION = 8  # how many times as long an n-gram is kept that occurred more than once


def horizon(store: NgramStore, kept_bytes: int) -> int:
    """Largest age, in tokens, of what stays if about `kept_bytes` of rows and tokens stay."""
    now = store.stream.stop + BEFORE_FIRST
    width = (store.stream.stop + 2 * BEFORE_FIRST) // N_LEVELS + 1
    histogram = np.zeros(N_LEVELS, np.int64)
    for m, table in enumerate(store.tables[1:], start=1):
        kernel.add_to_histogram(
            table.rows, table.n_units, m, table.is_longest, now, RETENTION, width, histogram
        )
    histogram *= UNIT_BYTES
    n_tokens = store.stream.stop - store.stream.first
    histogram[: n_tokens // width] += 4 * width
    return int(np.sum(histogram.cumsum() <= kept_bytes)) * width


def evict(store: NgramStore, cutoff: int) -> NDArray[np.int64]:
    """Evict what is `cutoff` tokens old or older, and halve the counts of what stays.

    Returns
    -------
    (order + 1,) int64
        The number of n-grams of each length whose rows were evicted.
    """
    stream, now = store.stream, store.stream.stop + BEFORE_FIRST
    first = max(stream.first, stream.stop - cutoff)
    begin, kept_from, end = (stream.index(t) for t in (stream.first, first, stream.stop))
    if first > stream.first:
        n_before = 0
        for chunk in stored_chunks(store, begin, min(end, kept_from + store.order)):
            n_before = replay.forget(
                stream.array, chunk.begin, chunk.n_tokens, n_before, kept_from, chunk.grams,
                chunk.known, chunk.shortest, store.columns.rows, store.counts_of_counts,
            )  # fmt: skip
    for k, (prefixes, lasts) in enumerate(traced(store)):
        contexts, table = store.tables[k], store.tables[k + 1]
        kernel.halve(
            table.rows, table.n_units, k + 1, now, RETENTION, cutoff, prefixes, lasts,
            contexts.rows, store.counts_of_counts[k],
        )  # fmt: skip
        kernel.choose_hints(
            table.rows, table.n_units, prefixes, lasts, contexts.rows, contexts.n_units
        )  # fmt: skip
    stream.array[kept_from] |= np.uint32(START)
    n_before = 0
    for chunk in stored_chunks(store, kept_from, end):
        n_before = replay.offer(
            stream.array, chunk.begin, chunk.n_tokens, n_before, chunk.grams, chunk.known,
            chunk.shortest, store.columns.rows,
        )  # fmt: skip
    for table in store.tables[:-1]:
        kernel.clear_unknown(table.rows, table.n_units)
    stream.cut(first)
    return _compact(store, cutoff, now)


def open_rows(table: Table) -> Nodes:
    """(n_units,) uint32: first token of each open n-gram, at its row; NONE at other units."""
    firsts = np.empty(table.n_units, np.uint32)
    kernel.find_open(table.rows, table.n_units, table.is_longest, firsts)
    return firsts


def traced(store: NgramStore) -> Iterator[tuple[Nodes, Nodes]]:
    """(prefixes, lasts) of the n-grams of 1, 2, ..., order tokens: what `kernel.trace` writes."""
    firsts = open_rows(store.tables[1])
    prefixes, lasts = np.empty((2, len(firsts)), np.uint32)
    kernel.trace_first(firsts, prefixes, lasts)
    yield prefixes, lasts
    for contexts, table in zip(store.tables[1:-1], store.tables[2:], strict=True):
        firsts = open_rows(table)
        suffix_prefixes, suffix_lasts = prefixes, lasts
        prefixes, lasts = np.empty((2, len(firsts)), np.uint32)
        kernel.trace(
            table.rows, firsts, suffix_prefixes, suffix_lasts, contexts.slots, contexts.bits,
            contexts.rows, prefixes, lasts,
        )  # fmt: skip
        yield prefixes, lasts


def _compact(store: NgramStore, cutoff: int, now: int) -> NDArray[np.int64]:
    """Drop the rows that go; returns how many of each length."""
    n_rows = store.sizes[:, index.N_ROWS].copy()
    new_suffixes = np.zeros(1, np.uint32)  # the n-gram of no tokens stays
    store.n_open[0] = min(int(store.n_open[0]), store.stream.n_context)
    for m, table in enumerate(store.tables[1:], start=1):
        n_units = table.n_units
        new_rows = np.empty(n_units, np.uint32)
        table.sizes[:] = index.EMPTY
        kernel.compact(
            table.rows, table.sizes, m, table.is_longest, now, RETENTION, cutoff, new_suffixes,
            new_rows,
        )  # fmt: skip
        if m <= store.n_open[0]:
            last_seen, row = divmod(int(store.ends[m]), 1 << 32)
            store.ends[m] = last_seen << 32 | int(new_rows[row])
        table.cut(n_units)
        new_suffixes = new_rows
    store.refresh()
    return n_rows - store.sizes[:, index.N_ROWS]
