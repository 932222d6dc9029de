"""The sums that the rows must have, added up from the rows and from the stored stream."""

import numpy as np

from ngrammix.kernels.index import (
    COUNT,
    FIRST,
    HINT,
    LAST_SEEN,
    NONE,
    PREFETCH_DISTANCE,
    SUFFIX,
    TOKEN,
    code_key,
    find_row,
    first_lane,
)
from ngrammix.kernels.jit import jit, prefetch
from ngrammix.kernels.replay import MISSING, contexts_of

_TOKEN = np.uint32(TOKEN)


@jit
def tally(
    stream, begin, base, n_tokens, n_before, grams, known, shortest, rows, totals, n_once, n_rows
):  # fmt: skip
    """Add up the followers that occurred once, for each open context; returns n_before after.

    totals: for each length of contexts, what `add_total` takes. n_once, n_rows (order + 1,) int64,
    updated: n-grams of each length that occurred once, and those of them that have a row. Returns
    -1 if an n-gram of the stream is not stored, or stored as having occurred elsewhere.
    """
    order = len(rows) - 1
    for j in range(n_tokens):
        m = np.int64(shortest[j])
        if m == MISSING:
            return np.int64(-1)
        if m > 0:
            n_rows[m] += 1
            if np.int64(rows[m][np.uint64(grams[m, j + 1]), LAST_SEEN]) != begin + j + 1 + base:
                return np.int64(-1)
        n_before, first, last = contexts_of(stream, begin, j, known, shortest, n_before, order)
        for k in range(first, min(n_before, order)):
            n_once[k + 1] += 1
        for k in range(first, last + 1):
            add_total(totals[k], rows[k], grams[k, j], 1, stream[begin + j] & _TOKEN)
    return n_before


@jit
def add_total(totals, context_rows, context, count, token):
    """Add a follower to totals (N, 4) uint32: followers, distinct, largest count, hint's count."""
    totals[context, 0] += count
    totals[context, 1] += count > 0
    totals[context, 2] = max(totals[context, 2], count)
    if context_rows[context + 1, HINT] == token:
        totals[context, 3] = count


@jit
def add_open_totals(rows, n_units, prefixes, lasts, context_rows, totals):
    """Add the open m-grams to the totals of their contexts, as `tally` adds the others."""
    for row in range(n_units):
        if prefixes[row] != NONE:
            add_total(totals, context_rows, prefixes[row], rows[row, COUNT], lasts[row])


@jit
def find_keys(rows, heads, slots, bits, found):
    """Write the row that a search for the key of each row finds, to found (N,) uint32.

    heads (N,) uint32: the rows.
    """
    bits = np.uint64(bits)
    for i in range(len(heads)):
        row, later = heads[i], heads[min(i + PREFETCH_DISTANCE, len(heads) - 1)]
        prefetch(slots, first_lane(code_key(rows[later, SUFFIX], rows[later, FIRST]), bits))
        suffix, token = rows[row, SUFFIX], rows[row, FIRST]
        found[i], _ = find_row(slots, bits, rows, suffix, token, code_key(suffix, token))
