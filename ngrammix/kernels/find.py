"""The n-grams that end at each token: found, opened or inserted, one order at a time.

An n-gram has a row if it occurred and its suffix (itself without its first token) is open. An
n-gram that occurred once is known by the time of its occurrence: what follows it there is its only
follower, and every longer n-gram that ends there occurred once too. When it occurs again, it is
opened: its counts are read from the stream, and the n-grams that are one token longer get rows, the
one of the earlier occurrence and the one of this. So a pass of order m meets only the places whose
(m - 1)-gram occurred before.
"""

import numpy as np

from ngrammix.kernels.index import (
    LAST_SEEN,
    NONE,
    OPEN,
    PREFETCH_DISTANCE,
    START,
    TIME,
    TOKEN,
    code_key,
    empty_slot,
    find_row,
    first_lane,
    prefetch_row,
    word_of,
)
from ngrammix.kernels.jit import bit_length, jit, prefetch
from ngrammix.kernels.rows import add_single, fill, insert_single, open_row

DENSE_EIGHTHS = 6  # of the tokens: from this share of places on, a pass walks all of the chunk

_OPEN, _TIME = np.uint32(OPEN), np.uint32(TIME)
_START, _TOKEN = np.uint32(START), np.uint32(TOKEN)
_ZERO, _ONE, _WORD = np.uint64(0), np.uint64(1), np.uint64(32)


@jit
def is_dense(n_places, n_tokens):
    """Whether a pass over all of a chunk is faster than one over a list of the places."""
    return n_places * 8 >= n_tokens * DENSE_EIGHTHS


@jit(inline="always")
def find(
    stream, begin, base, m, is_longest, walks_all, places, n_places, suffixes, grams, known, opened,
    slots, bits, rows, sizes, next_places,
):  # fmt: skip
    """Find, open or insert the m-grams that end at tokens of a chunk; return how many are known.

    stream: the stored tokens, those of the chunk from `begin` on; the token at time t is at
    t - base. places[:n_places] (ascending): the tokens at which the (m - 1)-gram was known before.
    walks_all: walk all n_places tokens of the chunk instead, and skip those with another `known`.
    suffixes, grams (T + 1,) uint64: the (m - 1)-gram and the m-gram that end just before each
    place: its row, and from bit 32 on the time just after its earlier occurrence; grams[1:] is
    written. known (T + 1,) uint8: length of the longest n-gram that ends just before each place and
    occurred before. opened (T,) uint32: where the n-gram of `known` tokens was opened here, index
    just after its earlier occurrence, else 0. next_places: the places of the next order. slots,
    bits, rows, sizes: the table; the caller has reserved two more n-grams a place.

    Three stages, each PREFETCH_DISTANCE places behind the one before, hide the cache misses: fetch
    the line; compare it and fetch the row; verify the row, or take a new one.
    """
    bits = np.uint64(bits)
    codes = np.empty(n_places, np.uint32)
    fresh = np.empty((n_places, 2), np.uint32)  # opened here: row, index after the occurrence
    n_fresh, n_out = _ZERO, _ZERO
    length = np.uint64(m)
    first = np.uint64(begin) - length + _ONE  # index of the first token of the m-gram at place 0
    now = np.uint32(begin + 1 + base)
    n_places, distance = np.uint64(n_places), np.uint64(PREFETCH_DISTANCE)
    for b in range(n_places):
        j = b if walks_all else np.uint64(places[b])
        codes[b] = code_key(np.uint32(suffixes[j + _ONE]), stream[first + j] & _TOKEN)
    for a in range(n_places + distance + distance):
        if a < n_places:
            j = a if walks_all else np.uint64(places[a])
            prefetch(slots, first_lane(np.uint64(codes[a]), bits))
            if opened[j] > 0:
                token = stream[np.uint64(opened[j]) - length] & _TOKEN
                code = code_key(np.uint32(suffixes[j + _ONE]), token)
                prefetch(slots, first_lane(code, bits))
        b = a - distance
        if b < n_places:  # false before the first place too: b is unsigned
            prefetch_row(slots, bits, rows, np.uint64(codes[b]))
        b -= distance
        if b >= n_places:
            continue
        j = b if walks_all else np.uint64(places[b])
        if walks_all and known[j + _ONE] != m - 1:
            continue
        suffix, token = np.uint32(suffixes[j + _ONE]), stream[first + j] & _TOKEN
        code = np.uint64(codes[b])
        exists = m == 1 or not stream[first + j + _ONE] & _START
        before = np.uint32(0)  # time just after the earlier occurrence, and the flag OPEN
        after = np.uint64(opened[j])
        if after > _ZERO and not stream[after - length + _ONE] & _START:
            # The suffix was opened just now: it occurred nowhere else, so no m-gram has a row yet.
            earlier = stream[after - length] & _TOKEN
            if exists and earlier == token:
                before = np.uint32(after) + np.uint32(base)
                row, slot = np.uint64(NONE), empty_slot(slots, bits, code)
            else:
                time = np.uint32(after) + np.uint32(base)
                insert_single(slots, bits, rows, sizes, suffix, earlier, time)
        if not exists:
            continue
        if before == 0:
            row, slot = find_row(slots, bits, rows, suffix, token, code)
            if row == NONE:
                row = add_single(rows, sizes, suffix, token, now + np.uint32(j))
                slots[slot] = word_of(code, bits, row)
                continue
            before = rows[row, LAST_SEEN]
        if before & _OPEN:
            opened[j] = 0
        else:
            after = np.uint64(before - np.uint32(base))
            opened[j] = after
            prefetch(stream, after)
            row = open_row(rows, sizes, row, suffix, token, is_longest)
            slots[slot] = word_of(code, bits, row)
            fresh[n_fresh, 0] = row
            fresh[n_fresh, 1] = after
            n_fresh += _ONE
        rows[row, LAST_SEEN] = (now + np.uint32(j)) | _OPEN
        grams[j + _ONE] = np.uint64(before & _TIME) << _WORD | row
        known[j + _ONE] = m
        next_places[n_out] = j
        n_out += _ONE
    for b in range(n_fresh):
        later = min(b + distance, n_fresh - _ONE)
        prefetch(rows, np.uint64(fresh[later, 0]))
        prefetch(stream, np.uint64(fresh[later, 1]))
        fill(rows, np.uint64(fresh[b, 0]), stream, np.uint64(fresh[b, 1]), is_longest)
    return n_out


def specialised(walks_all):
    """Return `find` compiled for this flag: known to the compiler, it saves a tenth."""

    @jit
    def find_specialised(
        stream, begin, base, m, is_longest, places, n_places, suffixes, grams, known, opened, slots,
        bits, rows, sizes, next_places,
    ):  # fmt: skip
        return find(
            stream, begin, base, m, is_longest, walks_all, places, n_places, suffixes, grams, known,
            opened, slots, bits, rows, sizes, next_places,
        )  # fmt: skip

    return find_specialised


find_sparse, find_dense = specialised(False), specialised(True)


@jit
def find_orders(
    stream, begin, base, n_tokens, shortest, longest, ends, n_open, grams, known, opened, places,
    n_places, slots, rows, sizes,
):  # fmt: skip
    """Find, open or insert the n-grams of `shortest` to `longest` tokens; shorter ones are found.

    ends (order + 1,) uint64: the last k tokens before the chunk, as in `grams`; for these orders
    replaced by the last k tokens of the chunk. n_open (1,) int64: length of the longest open n-gram
    that ends before the chunk, likewise replaced with the last order. grams (order + 1, more than
    T) uint64, places (order + 1, >= T) uint16, n_places (order + 1,) and sizes (order + 1, 4)
    int64, and slots and rows, tuples of order + 1 arrays: for each order, what `find` takes.
    """
    if shortest == 1:
        known[1 : n_tokens + 1] = 0
        opened[:n_tokens] = 0
        n_places[0] = n_tokens
        for j in range(n_tokens):
            places[0, j] = j
    for m in range(shortest, longest + 1):
        grams[m, 0] = ends[m]
        bits, is_longest = bit_length(len(slots[m])) - 1, m == len(rows) - 1
        if is_dense(n_places[m - 1], n_tokens):
            n_places[m] = find_dense(
                stream, begin, base, m, is_longest, places[m - 1], n_tokens, grams[m - 1], grams[m],
                known, opened, slots[m], bits, rows[m], sizes[m], places[m],
            )  # fmt: skip
        else:
            n_places[m] = find_sparse(
                stream, begin, base, m, is_longest, places[m - 1], n_places[m - 1], grams[m - 1],
                grams[m], known, opened, slots[m], bits, rows[m], sizes[m], places[m],
            )  # fmt: skip
        ends[m] = grams[m, n_tokens]
    if longest == len(rows) - 1:
        known[0] = n_open[0]
        n_open[0] = known[n_tokens]
