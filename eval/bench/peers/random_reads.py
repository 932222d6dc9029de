"""The limit that the memory system sets: random reads over as many bytes as the tables hold."""

from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from eval.bench.harness import timed
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.kernels.find import PREFETCH_DISTANCE
from ngrammix.kernels.jit import jit, prefetch

WORDS = 8  # of 4 bytes: a row that can be a context
N_READS = 1 << 22
RUNS = 3
DISTANCES = (
    0,
    PREFETCH_DISTANCE,
)  # 0: whatever the processor has in flight by itself; the faster counts


@jit
def read(rows, places, ahead):
    """Sum of the first words of rows[places], each row asked for `ahead` reads before.

    rows (R, 8) uint32, two in each cache line; places (N,) uint32 in [0, R).
    """
    total = np.uint64(0)
    last = len(places) - 1
    for i in range(len(places)):
        prefetch(rows, places[min(i + ahead, last)])
        total += np.uint64(rows[places[i], 0])
    return total


def reads_per_second(parts: Sequence[int], n_reads: int = N_READS) -> float:
    """Random reads a second of 32 bytes, in turn from each of the parts, given in bytes."""
    sizes = [max(1, part // (4 * WORDS)) for part in parts]
    rows = GrowingArray(sum(sizes), WORDS).array
    rows[...] = 1  # all pages that nobody wrote are one and the same page of zeros
    random = np.random.default_rng(0)
    places = np.empty(n_reads, np.uint32)
    first = 0
    for i, size in enumerate(sizes):
        turn = places[i :: len(sizes)]
        turn[:] = random.integers(first, first + size, len(turn))
        first += size
    seconds: dict[int, list[float]] = {ahead: [] for ahead in DISTANCES}
    for _ in range(RUNS):
        for ahead, found in seconds.items():
            found.append(timed(partial(read, rows, places, ahead)))
    return n_reads / min(map(median, seconds.values()))


def table_bytes(cache: NgramCache) -> list[tuple[int, int]]:
    """Bytes of the index and of the rows in use, for each order from 1 up."""
    return [(table.slots.nbytes, table.rows[: len(table)].nbytes) for table in cache._tables[1:]]


def measure(parts: Sequence[tuple[int, int]], n_reads: int = N_READS) -> dict[str, Any]:
    """Reads a second, and the tokens a second that they allow at one line and one row an order.

    parts: `table_bytes`. The strict limit is of reads from the order's own index and rows in turn,
    which lie in the processor's caches where they are small.
    """
    read(np.ones((1, WORDS), np.uint32), np.zeros(1, np.uint32), 0)  # compiles
    total = sum(map(sum, parts))
    rate = reads_per_second([total], n_reads)
    reads = 2 * len(parts)
    seconds = sum(2 / reads_per_second(part, n_reads) for part in parts)
    return {
        "table_bytes": total,
        "reads_per_second": rate,
        "reads_per_token": reads,
        "limit_tokens_per_second": rate / reads,
        "strict_limit_tokens_per_second": 1 / seconds,
    }
