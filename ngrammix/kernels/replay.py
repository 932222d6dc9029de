"""The stored stream once more: which n-grams of it occurred once, and which contexts they follow.

An n-gram that occurred once may have no row, so its token can be taken from, or offered to, the
contexts before it only where it stands in the stream.
"""

import numpy as np

from ngrammix.kernels.index import (
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    LAST_SEEN,
    NONE,
    OPEN,
    PREFETCH_DISTANCE,
    START,
    TOKEN,
    code_key,
    find_row,
    first_lane,
    prefetch_row,
)
from ngrammix.kernels.jit import bit_length, jit, prefetch

MISSING = 255  # in place of a length: the n-gram is not stored, which no valid store leads to
# Flag in HINT: no hint is chosen yet. No token has this bit set.
UNKNOWN = 1 << 31

_OPEN, _UNKNOWN = np.uint32(OPEN), np.uint32(UNKNOWN)
_START, _TOKEN = np.uint32(START), np.uint32(TOKEN)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@jit
def find_stored(
    stream, begin, m, places, n_places, suffixes, grams, known, shortest, slots, bits, rows,
    next_places,
):  # fmt: skip
    """Find the m-grams that end at the places whose (m - 1)-gram is open; return how many are.

    stream: the stored tokens, those of the chunk from `begin` on. places, next_places: indices in
    the chunk. suffixes, grams (T + 1,) uint32: row of the (m - 1)-gram and of the m-gram that ends
    just before each place. known (T + 1,) uint8: length of the longest open n-gram there.
    shortest (T,) uint8: length of the shortest n-gram that ends at each token and occurred once.
    """
    bits = np.uint64(bits)
    n_places, distance = np.uint64(n_places), np.uint64(PREFETCH_DISTANCE)
    first = np.uint64(begin) - np.uint64(m) + _ONE
    n_out = _ZERO
    for a in range(n_places + distance + distance):
        if a < n_places:
            j = np.uint64(places[a])
            code = code_key(suffixes[j + _ONE], stream[first + j] & _TOKEN)
            prefetch(slots, first_lane(code, bits))
        b = a - distance
        if b < n_places:
            j = np.uint64(places[b])
            code = code_key(suffixes[j + _ONE], stream[first + j] & _TOKEN)
            prefetch_row(slots, bits, rows, code)
        b -= distance
        if b >= n_places:
            continue
        j = np.uint64(places[b])
        if m > 1 and stream[first + j + _ONE] & _START:
            continue
        suffix, token = suffixes[j + _ONE], stream[first + j] & _TOKEN
        row, _ = find_row(slots, bits, rows, suffix, token, code_key(suffix, token))
        if row == NONE:
            shortest[j] = MISSING
            continue
        grams[j + _ONE] = row
        if rows[row, LAST_SEEN] & _OPEN:
            known[j + _ONE] = m
            next_places[n_out] = j
            n_out += _ONE
        else:
            shortest[j] = m
    return n_out


@jit
def find_all_stored(stream, begin, n_tokens, grams, known, shortest, places, slots, rows):
    """`find_stored` for all orders. grams, places: one row for each order from 0 up."""
    known[1 : n_tokens + 1] = 0
    shortest[:n_tokens] = 0
    for j in range(n_tokens):
        places[0, j] = j
    n_places = np.uint64(n_tokens)
    for m in range(1, len(rows)):
        bits = bit_length(len(slots[m])) - 1
        n_places = find_stored(
            stream, begin, m, places[m - 1], n_places, grams[m - 1], grams[m], known, shortest,
            slots[m], bits, rows[m], places[m],
        )  # fmt: skip


@jit
def contexts_of(stream, begin, j, known, shortest, n_before, order):
    """(n, first, last): lengths of the contexts that have token j as a follower that occurred once.

    n: tokens since the document began, this one included. The n-grams of `shortest` to
    min(n, order) tokens occurred once; the contexts of first, ..., last tokens are open.
    """
    n = np.int64(1) if stream[begin + j] & _START else n_before + 1
    if shortest[j] == 0:
        return n, np.int64(order), np.int64(-1)
    last = np.int64(0) if n == 1 else np.int64(known[j])
    return n, np.int64(shortest[j]) - 1, min(last, order - 1)


@jit
def forget(
    stream, begin, n_tokens, n_before, kept_from, grams, known, shortest, rows, counts_of_counts
):  # fmt: skip
    """Take the n-grams that occurred once and begin before index `kept_from` from their contexts.

    n_before: tokens since the document began, before the chunk. A hint that is taken leaves
    `UNKNOWN`. Returns n_before after the chunk.
    """
    order = len(counts_of_counts)
    for j in range(n_tokens):
        n_before, first, last = contexts_of(stream, begin, j, known, shortest, n_before, order)
        first = max(first, begin + j - kept_from + 1)
        for k in range(first, min(n_before, order)):
            counts_of_counts[k, 0] -= 1
        token = stream[begin + j] & _TOKEN
        for k in range(first, last + 1):
            followers, table = np.uint64(grams[k, j]) + _ONE, rows[k]
            table[followers, FOLLOWERS] -= np.uint32(1)
            table[followers, DISTINCT] -= np.uint32(1)
            if table[followers, HINT] == token:
                table[followers, HINT] = _UNKNOWN
                table[followers, HINT_COUNT] = 0
    return n_before


@jit
def offer(stream, begin, n_tokens, n_before, grams, known, shortest, rows):
    """Give each context whose hint is `UNKNOWN` its latest follower that occurred once.

    The flag stays. Returns n_before after the chunk.
    """
    order = len(rows) - 1
    for j in range(n_tokens):
        n_before, first, last = contexts_of(stream, begin, j, known, shortest, n_before, order)
        for k in range(first, last + 1):
            followers, table = np.uint64(grams[k, j]) + _ONE, rows[k]
            if table[followers, HINT] & _UNKNOWN:
                table[followers, HINT] = _UNKNOWN | (stream[begin + j] & _TOKEN)
                table[followers, HINT_COUNT] = 1
    return n_before
