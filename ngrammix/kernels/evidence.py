"""The evidence of a chunk: for each order, an entry for each context that occurred before.

depth (T,) uint8: length of the longest context at each position that occurred before. entries (N,
8) uint32: those of order k are entries[starts[k] : starts[k + 1]], one for each position with a
depth of k or more, in the order of the positions. starts (order + 1,) int64.
"""

import numpy as np

from ngrammix.kernels.jit import jit

# Columns of an entry; the first four are those of a row, in its order. The last two are the n-grams
# of the order that are counted once, and twice, so far.
FOLLOWERS, DISTINCT, HINT, HINT_COUNT, TARGET_COUNT, AGE, ONCE, TWICE = range(8)
N_COLUMNS = 8


@jit(error_model="numpy")
def discount(once, twice):
    """Absolute discount of one order from n1 and n2, the n-grams counted once and twice: float32.

    n1 / (n1 + 2 n2) (Ney, Essen and Kneser 1994), with 3 and 4 added so that it starts at 0.75 and
    stays in (0, 1] for any counts.
    """
    n1, n2 = np.float64(once), np.float64(twice)
    return np.float32((n1 + 3.0) / (n1 + 2.0 * n2 + 4.0))


@jit
def lay_out(known, n_places, depth, starts):
    """Write depth and starts, from what `find` left; return N, the number of entries.

    known (T + 1 or more,) uint8: length of the longest n-gram that ends just before each place and
    occurred before, thus of the longest context there. n_places (order + 1,) int64: of the places
    from 1 to T, how many have one of each length or more.
    """
    longest = np.uint8(len(starts) - 2)
    for i in range(len(depth)):
        depth[i] = min(known[i], longest)
    starts[0] = 0
    for k in range(len(starts) - 1):
        starts[k + 1] = starts[k] + n_places[k] + (known[0] >= k) - (known[len(depth)] >= k)
    return starts[-1]


@jit
def find_matched(entries, starts, depth, matched):
    """Write the number of contexts that have followers at each position, to matched (T,) int64."""
    cursors = starts[:-1].copy()
    for i in range(len(depth)):
        matched[i] = 0
        for k in range(depth[i] + 1):
            matched[i] += entries[cursors[k], FOLLOWERS] > 0
            cursors[k] += 1


@jit
def spread_discounts(entries, starts, depth, n_context, counts_of_counts, discounts):
    """Write the discount of each order at each position of a chunk: discounts (order, T).

    n_context: tokens since the boundary, before the chunk. counts_of_counts (order, 2) int64: after
    the chunk. Where the context of k tokens is new, one more (k + 1)-gram is counted once after it.
    """
    for k in range(len(starts) - 1):
        cursor = starts[k + 1]
        once, twice = counts_of_counts[k]
        for i in range(len(depth) - 1, -1, -1):
            if depth[i] >= k:
                cursor -= 1
                once, twice = (
                    np.int64(entries[cursor, ONCE]),
                    np.int64(entries[cursor, TWICE]),
                )
            elif n_context + i >= k:
                once -= 1
            discounts[k, i] = discount(once, twice)
