"""The evidence of a call: for each order, an entry for each context that occurred before."""

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
def find_matched(entries, depth, matched):
    """Write the number of contexts that have followers at each position, to matched (T,) int64."""
    cursors = np.zeros(len(entries), np.int64)
    for i in range(len(depth)):
        matched[i] = 0
        for k in range(depth[i] + 1):
            matched[i] += entries[k, cursors[k], FOLLOWERS] > 0
            cursors[k] += 1


@jit
def spread_discounts(entries, depth, n_before, n_context, counts_of_counts, discounts):
    """Write the discount of each order at each position of a segment: discounts (order, T).

    n_before (order,) int64, updated: entries of earlier positions. n_context: tokens since the
    boundary, before the segment. counts_of_counts (order, 2) int64: after the segment. Where the
    context of k tokens is new, one more (k + 1)-gram is counted once after it.
    """
    for k in range(len(entries)):
        n_entries = 0
        for i in range(len(depth)):
            n_entries += depth[i] >= k
        n_before[k] += n_entries
        cursor = n_before[k]
        once, twice = counts_of_counts[k]
        for i in range(len(depth) - 1, -1, -1):
            if depth[i] >= k:
                cursor -= 1
                once, twice = (
                    np.int64(entries[k, cursor, ONCE]),
                    np.int64(entries[k, cursor, TWICE]),
                )
            elif n_context + i >= k:
                once -= 1
            discounts[k, i] = discount(once, twice)
