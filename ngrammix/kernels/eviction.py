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
)
from ngrammix.kernels.jit import jit, prefetch
from ngrammix.kernels.replay import UNKNOWN

_OPEN, _TIME, _UNKNOWN = np.uint32(OPEN), np.uint32(TIME), np.uint32(UNKNOWN)


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
def add_to_histogram(rows, n_rows, m, now, retention, width, row_bytes, histogram):
    """Add the bytes of the m-grams by age, `width` tokens a bin, to histogram (N,) int64."""
    for row in range(n_rows):
        histogram[age_of(rows[row, LAST_SEEN], m, now, retention) // width] += row_bytes


@jit
def trace(rows, n_rows, suffix_prefixes, suffix_lasts, slots, bits, context_rows, prefixes, lasts):
    """Write the prefix and the last token of each open m-gram: its row of m - 1 tokens, and the id.

    suffix_prefixes, suffix_lasts: the same of the (m - 1)-grams. slots, bits, context_rows: the
    table of m - 1 tokens. prefixes, lasts (n_rows,) uint32: NONE and 0 where the m-gram is not
    open.
    """
    bits = np.uint64(bits)
    for row in range(n_rows + PREFETCH_DISTANCE):
        if row < n_rows:
            prefixes[row], lasts[row] = NONE, 0
            if rows[row, LAST_SEEN] & _OPEN:
                prefixes[row] = suffix_prefixes[rows[row, SUFFIX]]
                lasts[row] = suffix_lasts[rows[row, SUFFIX]]
                prefetch(slots, first_lane(code_key(prefixes[row], rows[row, FIRST]), bits))
        row -= PREFETCH_DISTANCE
        if row >= 0 and prefixes[row] != NONE:
            prefix, token = prefixes[row], rows[row, FIRST]
            code = code_key(prefix, token)
            prefixes[row], _ = find_row(slots, bits, context_rows, prefix, token, code)


@jit
def trace_first(rows, n_rows, prefixes, lasts):
    """`trace` for the 1-grams, whose prefix is the n-gram of no tokens."""
    for row in range(n_rows):
        is_open = rows[row, LAST_SEEN] & _OPEN
        prefixes[row] = 0 if is_open else NONE
        lasts[row] = rows[row, FIRST] if is_open else 0


@jit
def halve(
    rows, n_rows, m, now, retention, cutoff, prefixes, lasts, context_rows, count_of_counts
):  # fmt: skip
    """Halve the counts of the open m-grams, rounded up, and take those that go from their contexts.

    An m-gram goes if its age is `cutoff` or more. A hint that goes leaves `UNKNOWN`.
    """
    for row in range(n_rows):
        prefetch(context_rows, np.uint64(prefixes[min(row + PREFETCH_DISTANCE, n_rows - 1)]))
        if prefixes[row] == NONE:
            continue
        context = np.uint64(prefixes[row])
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
        context_rows[context, FOLLOWERS] -= before - after
        if after == 0:
            context_rows[context, DISTINCT] -= np.uint32(1)
        if context_rows[context, HINT] == lasts[row]:
            context_rows[context, HINT_COUNT] = after
            if after == 0:
                context_rows[context, HINT] = _UNKNOWN


@jit
def choose_hints(rows, n_rows, prefixes, lasts, context_rows, n_contexts):
    """Give each context whose hint is `UNKNOWN` its open follower of the largest count, if any.

    A tie goes to the follower seen last. The counts are halved already.
    """
    for row in range(n_rows):
        prefetch(context_rows, np.uint64(prefixes[min(row + PREFETCH_DISTANCE, n_rows - 1)]))
        if prefixes[row] == NONE or rows[row, COUNT] == 0:
            continue
        context = np.uint64(prefixes[row])
        hint = context_rows[context, HINT]
        if not hint & _UNKNOWN:
            continue
        largest, count = context_rows[context, HINT_COUNT], rows[row, COUNT]
        rival = np.uint64(hint & ~_UNKNOWN)  # row of the best so far, if `largest` is above 0
        if count > largest or (
            count == largest and rows[row, LAST_SEEN] & _TIME > rows[rival, LAST_SEEN] & _TIME
        ):
            context_rows[context, HINT] = _UNKNOWN | np.uint32(row)
            context_rows[context, HINT_COUNT] = count
    for context in range(n_contexts):
        if context_rows[context, HINT] & _UNKNOWN and context_rows[context, HINT_COUNT] > 0:
            rival = np.uint64(context_rows[context, HINT] & ~_UNKNOWN)
            context_rows[context, HINT] = lasts[rival]


@jit
def clear_unknown(rows, n_rows):
    """Make hints of what `offer` chose; 0 for contexts that have no follower left."""
    for row in range(n_rows):
        rows[row, HINT] &= ~_UNKNOWN


@jit
def compact(rows, n_rows, m, now, retention, cutoff, new_suffixes, new_rows):
    """Move the m-grams that stay together, and return how many they are.

    new_suffixes, new_rows (>= n_rows,) uint32: new row of each old row of m - 1 and of m tokens;
    new_rows is written, NONE where the m-gram goes.
    """
    n_kept = 0
    for row in range(n_rows):
        prefetch(new_suffixes, np.uint64(rows[min(row + PREFETCH_DISTANCE, n_rows - 1), SUFFIX]))
        new_rows[row] = NONE
        if age_of(rows[row, LAST_SEEN], m, now, retention) < cutoff:
            new_rows[row] = n_kept
            rows[row, SUFFIX] = new_suffixes[rows[row, SUFFIX]]
            for column in range(rows.shape[1]):
                rows[n_kept, column] = rows[row, column]
            n_kept += 1
    return n_kept
