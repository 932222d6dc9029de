"""Eviction from full tables: which n-grams stay, with every sum kept exact."""

import numpy as np

from ngrammix.kernels.index import (
    COUNT,
    DISTINCT,
    FIRST,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    LAST_SEEN,
    NONE,
    OPEN,
    PREFETCH_DISTANCE,
    SUFFIX,
    TIME,
    code_key,
    find_row,
    first_lane,
    n_units_of,
)
from ngrammix.kernels.jit import jit, prefetch
from ngrammix.kernels.replay import UNKNOWN
from ngrammix.kernels.rows import add_single, open_row

_OPEN, _TIME, _UNKNOWN = np.uint32(OPEN), np.uint32(TIME), np.uint32(UNKNOWN)
_ONE = np.uint64(1)


@jit
def age_of(last_seen, m, now, retention):
    """Age of an m-gram: int64, the tokens since its most recent occurrence began, less 1.

    now: the time. The age of an n-gram that is open is divided by `retention`. A prefix or a suffix
    is never older than the n-gram, because it occurs wherever the n-gram does, and is open where
    the n-gram is. So an n-gram that stays keeps its contexts and its suffix.
    """
    age = now - 1 + m - np.int64(last_seen & _TIME)
    return age // retention if last_seen & _OPEN else age


@jit
def add_to_histogram(rows, n_units, m, is_longest, now, retention, width, histogram):
    """Add the units of the m-grams by age, `width` tokens a bin, to histogram (N,) int64."""
    row = 0
    while row < n_units:
        n = n_units_of(rows, row, is_longest)
        if rows[row, SUFFIX] != NONE:
            histogram[age_of(rows[row, LAST_SEEN], m, now, retention) // width] += n
        row += n


@jit
def find_open(rows, n_units, is_longest, firsts):
    """Write the first token of each open n-gram to firsts (n_units,) uint32, NONE elsewhere."""
    firsts[:] = NONE
    row = 0
    while row < n_units:
        if rows[row, LAST_SEEN] & _OPEN:
            firsts[row] = rows[row, FIRST]
        row += n_units_of(rows, row, is_longest)


@jit
def trace(rows, firsts, suffix_prefixes, suffix_lasts, slots, bits, context_rows, prefixes, lasts):
    """Write the prefix and the last token of each open m-gram: its row of m - 1 tokens, and the id.

    firsts: of the m-grams, what `find_open` writes. suffix_prefixes, suffix_lasts: of the
    (m - 1)-grams, what this writes. slots, bits, context_rows: the table of m - 1 tokens.
    prefixes, lasts (n_units,) uint32: NONE and 0 where no m-gram is open.
    """
    bits = np.uint64(bits)
    n_units = len(firsts)
    for row in range(n_units + PREFETCH_DISTANCE):
        if row < n_units:
            prefixes[row], lasts[row] = NONE, 0
            if firsts[row] != NONE:
                prefixes[row] = suffix_prefixes[rows[row, SUFFIX]]
                lasts[row] = suffix_lasts[rows[row, SUFFIX]]
                prefetch(slots, first_lane(code_key(prefixes[row], firsts[row]), bits))
        row -= PREFETCH_DISTANCE
        if row >= 0 and prefixes[row] != NONE:
            prefix, token = prefixes[row], firsts[row]
            code = code_key(prefix, token)
            prefixes[row], _ = find_row(slots, bits, context_rows, prefix, token, code)


@jit
def trace_first(firsts, prefixes, lasts):
    """`trace` for the 1-grams, whose prefix is the n-gram of no tokens."""
    for row in range(len(firsts)):
        prefixes[row] = NONE if firsts[row] == NONE else np.uint32(0)
        lasts[row] = 0 if firsts[row] == NONE else firsts[row]


@jit
def halve(
    rows, n_units, m, now, retention, cutoff, prefixes, lasts, context_rows, count_of_counts
):  # fmt: skip
    """Halve the counts of the open m-grams, rounded up, and take those that go from their contexts.

    An m-gram goes if its age is `cutoff` or more. A hint that goes leaves `UNKNOWN`.
    """
    for row in range(n_units):
        prefetch(context_rows, np.uint64(prefixes[min(row + PREFETCH_DISTANCE, n_units - 1)]))
        if prefixes[row] == NONE:
            continue
        followers = np.uint64(prefixes[row]) + _ONE
        stays = age_of(rows[row, LAST_SEEN], m, now, retention) < cutoff
        before = rows[row, COUNT]
        after = before - (before >> np.uint32(1)) if stays else np.uint32(0)
        if after == before:
            continue
        rows[row, COUNT] = after
        if before <= 2:
            count_of_counts[before - 1] -= 1
        if 0 < after <= 2:
            count_of_counts[after - 1] += 1
        context_rows[followers, FOLLOWERS] -= before - after
        if after == 0:
            context_rows[followers, DISTINCT] -= np.uint32(1)
        if context_rows[followers, HINT] == lasts[row]:
            context_rows[followers, HINT_COUNT] = after
            if after == 0:
                context_rows[followers, HINT] = _UNKNOWN


@jit
def choose_hints(rows, n_units, prefixes, lasts, context_rows, n_context_units):
    """Give each context whose hint is `UNKNOWN` its open follower of the largest count, if any.

    A tie goes to the follower seen last. The counts are halved already.
    """
    for row in range(n_units):
        prefetch(context_rows, np.uint64(prefixes[min(row + PREFETCH_DISTANCE, n_units - 1)]))
        if prefixes[row] == NONE or rows[row, COUNT] == 0:
            continue
        followers = np.uint64(prefixes[row]) + _ONE
        hint = context_rows[followers, HINT]
        if not hint & _UNKNOWN:
            continue
        largest, count = context_rows[followers, HINT_COUNT], rows[row, COUNT]
        rival = np.uint64(hint & ~_UNKNOWN)  # row of the best so far, if `largest` is above 0
        if count > largest or (
            count == largest and rows[row, LAST_SEEN] & _TIME > rows[rival, LAST_SEEN] & _TIME
        ):
            context_rows[followers, HINT] = _UNKNOWN | np.uint32(row)
            context_rows[followers, HINT_COUNT] = count
    context = 0
    while context < n_context_units:
        n = n_units_of(context_rows, context, False)
        followers = context_rows[context + n - 1]  # of an open context, which has two units
        if n == 2 and followers[HINT] & _UNKNOWN and followers[HINT_COUNT] > 0:
            followers[HINT] = lasts[np.uint64(followers[HINT] & ~_UNKNOWN)]
        context += n


@jit
def clear_unknown(rows, n_units):
    """Make hints of what `offer` chose; 0 for contexts that have no follower left."""
    context = 0
    while context < n_units:
        n = n_units_of(rows, context, False)
        if n == 2:
            rows[context + 1, HINT] &= ~_UNKNOWN
        context += n


@jit
def compact(rows, sizes, m, is_longest, now, retention, cutoff, new_suffixes, new_rows):
    """Move the m-grams that stay together.

    sizes: of a table without n-grams; on return, of those that stay. new_suffixes, new_rows: new
    row of each old row of m - 1 and of m tokens; new_rows (n_units,) uint32 is written, NONE where
    no m-gram stays.
    """
    n_units = len(new_rows)
    new_rows[:] = NONE
    row = 0
    while row < n_units:
        later = rows[min(row + PREFETCH_DISTANCE, n_units - 1), SUFFIX]
        prefetch(new_suffixes, np.uint64(later))
        n = n_units_of(rows, row, is_longest)
        last_seen = rows[row, LAST_SEEN]
        if rows[row, SUFFIX] != NONE and age_of(last_seen, m, now, retention) < cutoff:
            suffix, token = new_suffixes[rows[row, SUFFIX]], rows[row, FIRST]
            count = rows[row, COUNT]
            if n == 1:
                new_row = add_single(rows, sizes, suffix, token, last_seen)
            else:  # what it overwrites was moved already: it is never behind `row`
                followers = rows[row + 1].copy()
                new_row = open_row(rows, sizes, np.uint64(NONE), suffix, token, is_longest)
                rows[new_row, LAST_SEEN] = last_seen
                rows[new_row + _ONE] = followers
            rows[new_row, COUNT] = count
            new_rows[row] = new_row
        row += n
