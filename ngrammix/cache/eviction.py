"""Eviction from a full cache: the least recently used n-grams go, and counts are halved.

Most n-grams of a text occur once, and of the n-grams that one token inserts, the shortest carries
all counts of the longer ones. So of n-grams last seen at the same time, the longer ones are evicted
first, and those that occurred more than once are evicted last.

The counts of the n-grams that stay are halved. An evicted n-gram that comes back is new again, so
it raises the Kneser-Ney count of its suffix once more. Without halving, such counts would grow with
every eviction, and the estimator would become worse than that of a cache emptied each time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.table import Table
from ngrammix.kernels import eviction as kernel
from ngrammix.kernels import find
from ngrammix.types import Nodes

N_LEVELS = 4096  # bins of the histogram of eviction keys
# Chosen by the bits of the cache alone at 1/2, 1/4 and 1/8 of the memory that it takes without a
# limit (`ngrammix bench memory`), on FineWeb, Darwin and the Linux kernel; fractions from 0.4 to
# 0.6, and all divisors from 4 and 16 to 32 and 128, are within 0.04 BPB of these.
KEPT_FRACTION = 0.5  # of the n-grams, at most, stay after an eviction
# The age of an n-gram is divided by these before ages are compared: n-grams that carry counts of
# their own, and n-grams that occurred more than once.
DIVISOR, DIVISOR_REPEATED = 8, 64


def evict(
    tables: Sequence[Table],
    counts_of_counts: NDArray[np.int64],
    nodes: Nodes,
    position: int,
    n_kept: int,
) -> NDArray[np.int64]:
    """Evict all but the `n_kept` most recently used n-grams, or a few fewer; halve their counts.

    Every sum stays exact: what a context loses is subtracted from it. nodes (order + 1,), the nodes
    of the last k tokens of the stream, are updated; NONE if evicted.

    Returns
    -------
    (order + 1,) int64
        The number of n-grams of each length that were evicted.
    """
    width = (position + 3 * find.BEFORE_FIRST) // N_LEVELS + 1
    histogram = np.zeros(N_LEVELS, np.int64)
    for k, table in enumerate(tables[1:], start=1):
        kernel.add_to_histogram(
            table.rows, len(table), k, position, DIVISOR, DIVISOR_REPEATED, width, histogram
        )
    cutoff = int(np.sum(histogram.cumsum() <= n_kept)) * width

    n_evicted = np.zeros(len(tables), np.int64)
    new_contexts = np.zeros(1, np.uint32)  # the root stays
    for k in range(1, len(tables)):
        contexts, table = tables[k - 1], tables[k]
        new_rows = table.slots  # free memory until the index is rebuilt at the end
        n_rows = kernel.evict(
            table.rows, len(table), k, position, DIVISOR, DIVISOR_REPEATED, cutoff, contexts.rows,
            new_contexts, new_rows, counts_of_counts[k - 1],
        )  # fmt: skip
        kernel.choose_hints(contexts.rows, len(contexts), table.rows, n_rows)
        n_evicted[k] = len(table) - n_rows
        is_stored = nodes[k] != find.NONE and nodes[k - 1] != find.NONE
        nodes[k] = new_rows[nodes[k]] if is_stored else find.NONE
        if k > 1:
            contexts.reindex()
        table.truncate(n_rows)
        new_contexts = new_rows
    tables[-1].reindex()
    return n_evicted
