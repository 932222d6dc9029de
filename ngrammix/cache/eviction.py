"""What a full cache forgets: the stalest half of its n-grams, and half of what the others count.

Most n-grams of a text come once, and of those that one token made, the shortest knows all that the
longer ones know. So of n-grams seen at the same time, the longer ones go first, and those that came
again go last.

The counts of those that stay are halved. A forgotten n-gram that comes back is new, so it raises
the Kneser-Ney count of its suffix once more; unhalved, such counts outgrow the honest ones sweep by
sweep, and the estimator gets worse than one that begins anew each time.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.table import Nodes, Table
from ngrammix.kernels import eviction as kernel
from ngrammix.kernels import find

LEVELS = 4096  # of staleness: how finely the oldest are told from the newest
# Chosen by the bits of the cache alone at 1/2, 1/4 and 1/8 of the memory that it takes without a
# limit (`ngrammix bench memory`), on FineWeb, Darwin and the Linux kernel; 0.4 to 0.6, and all
# weights from 4 and 16 to 32 and 128, are within 0.04 BPB of these.
KEPT = 0.5  # of the n-grams, at most, after a sweep
SHORTEST, REPEATED = 8, 64  # how many times as long such n-grams stay as the others


def forget(
    tables: Sequence[Table],
    counts_of_counts: NDArray[np.int64],
    nodes: Nodes,
    position: int,
    n_kept: int,
) -> NDArray[np.int64]:
    """Forget all but the `n_kept` n-grams that are least stale, or a few less; halve their counts.

    Every sum holds: what a context lost is taken off it. nodes (order + 1,), the last k
    tokens of the stream, follow their n-grams, and are NONE where those are forgotten.

    Returns
    -------
    (order + 1,) int64
        How many n-grams of each length were forgotten.
    """
    width = (position + 3 * find.BEFORE_FIRST) // LEVELS + 1
    histogram = np.zeros(LEVELS, np.int64)
    for k, table in enumerate(tables[1:], start=1):
        kernel.count_stale(
            table.rows, len(table), k, position, SHORTEST, REPEATED, width, histogram
        )
    cutoff = int(np.sum(histogram.cumsum() <= n_kept)) * width

    forgotten = np.zeros(len(tables), np.int64)
    moved_contexts = np.zeros(1, np.uint32)  # the root stays
    for k in range(1, len(tables)):
        contexts, table = tables[k - 1], tables[k]
        moved = table.slots  # the index is made anew at the end: until then, room for this
        kept = kernel.forget(
            table.rows, len(table), k, position, SHORTEST, REPEATED, cutoff, contexts.rows,
            moved_contexts, moved, counts_of_counts[k - 1],
        )  # fmt: skip
        kernel.find_hints(contexts.rows, len(contexts), table.rows, kept)
        forgotten[k] = len(table) - kept
        is_known = nodes[k] != find.NONE and nodes[k - 1] != find.NONE
        nodes[k] = moved[nodes[k]] if is_known else find.NONE
        if k > 1:
            contexts.reindex()
        table.truncate(kept)
        moved_contexts = moved
    tables[-1].reindex()
    return forgotten
