"""The limit of the memory system: random reads over as many bytes as the tables take."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from eval.bench.rounds import race
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.kernels.index import PREFETCH_DISTANCE
from ngrammix.kernels.jit import jit, prefetch

WORDS = 8  # of 4 bytes: a row that can be a context
N_READS = 1 << 22
RUNS = 3
DISTANCES = (0, PREFETCH_DISTANCE)  # 0: no prefetch; the faster one counts


@jit
def read(rows, indices, distance):
    """Sum of the first words of rows[indices]; each row is prefetched `distance` reads before.

    rows (R, 8) uint32, two in each cache line; indices (N,) uint32 in [0, R).
    """
    total = np.uint64(0)
    last = len(indices) - 1
    for i in range(len(indices)):
        prefetch(rows, indices[min(i + distance, last)])
        total += np.uint64(rows[indices[i], 0])
    return total


def reads_per_second(parts: Sequence[int], n_reads: int = N_READS) -> float:
    """Random reads a second of 32 bytes, in turn from parts of so many bytes."""
    sizes = [max(1, part // (4 * WORDS)) for part in parts]
    rows = GrowingArray(sum(sizes), WORDS).array
    rows[...] = 1  # pages never written to are one shared page of zeros
    random = np.random.default_rng(0)
    indices = np.empty(n_reads, np.uint32)
    first = 0
    for i, size in enumerate(sizes):
        of_part = indices[i :: len(sizes)]
        of_part[:] = random.integers(first, first + size, len(of_part))
        first += size
    rounds = race({str(n): partial(read, rows, indices, n) for n in DISTANCES}, RUNS)
    return max(rounds.rates(n_reads).values())


def table_bytes(cache: NgramCache) -> list[tuple[int, int]]:
    """Bytes of the index and of the rows in use, for each order from 1 up."""
    tables = cache._store.tables[1:]
    return [(table.slots.nbytes, table.rows[: table.n_units].nbytes) for table in tables]


def measure(
    parts: Sequence[tuple[int, int]], places: Sequence[float], n_reads: int = N_READS
) -> dict[str, Any]:
    """Reads a second, and the tokens a second that they allow at one line and one row a look-up.

    parts: `table_bytes`. places: look-ups a token, of each order. The strict limit takes the reads
    of each order from its own index and rows, which fit the caches of the processor where they are
    small.
    """
    total = sum(map(sum, parts))
    rate = reads_per_second([total], n_reads)
    reads = 2 * sum(places)
    return {
        "table_bytes": total,
        "reads_per_second": rate,
        "reads_per_token": reads,
        "tokens_per_second_limit": rate / reads,
        "tokens_per_second_strict_limit": 1
        / sum(2 * n / reads_per_second(p, n_reads) for p, n in zip(parts, places, strict=True)),
    }
