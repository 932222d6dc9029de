"""Eviction from full tables: which n-grams stay, with every sum kept exact."""

import numpy as np

from ngrammix.kernels.find import (
    BEFORE_FIRST,
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    LAST_SEEN,
    LAST_SEEN_MASK,
    NONE,
    PREFETCH_DISTANCE,
    PREFIX,
    REDUNDANT,
    REPEATED,
    TOKEN,
)
from ngrammix.kernels.jit import jit, prefetch

# Flag in HINT: no hint is chosen yet. The other bits hold the row of a candidate, if HINT_COUNT is
# above 0. No token has this bit set.
_UNKNOWN = np.uint32(0x80000000)


@jit
def eviction_key(last_seen, k, position, divisor, divisor_repeated):
    """Eviction key of a k-gram: int64; larger keys are evicted first.

    The key is the number of tokens since the most recent occurrence began, divided by
    `divisor_repeated` if the k-gram occurred more than once, else by `divisor` if its suffix was
    not inserted with it. In a stream, a prefix or a suffix never has a larger key than the n-gram,
    because it occurs wherever the n-gram does. So an n-gram that stays keeps all its contexts, and
    a longer context is never stored without the shorter ones.
    """
    age = position + BEFORE_FIRST + k - np.int64(last_seen & np.uint32(LAST_SEEN_MASK))
    if last_seen & np.uint32(REPEATED):
        return age // divisor_repeated
    return age if last_seen & np.uint32(REDUNDANT) else age // divisor


@jit
def add_to_histogram(rows, n_rows, k, position, divisor, divisor_repeated, width, histogram):
    """Count the k-grams by eviction key, `width` keys a bin, in histogram (N,) int64."""
    for row in range(n_rows):
        key = eviction_key(rows[row, LAST_SEEN], k, position, divisor, divisor_repeated)
        histogram[key // width] += 1


@jit
def evict(
    rows, n_rows, k, position, divisor, divisor_repeated, cutoff, context_rows, new_contexts,
    new_rows, count_of_counts,
):  # fmt: skip
    """Evict the k-grams whose key is `cutoff` or more, and return how many stay.

    A k-gram whose prefix was evicted is evicted as well, whatever its key. The counts of those that
    stay are halved, rounded up, and their rows are moved together. context_rows: the table of
    k - 1 tokens, already evicted from. new_contexts, new_rows (at least n_rows,) uint32: new row
    of each old row of k - 1 and of k tokens, NONE if evicted; new_rows is written. count_of_counts
    (2,) int64, updated: k-grams counted once, and twice.
    """
    n_kept = 0
    for row in range(n_rows):
        prefetch(new_contexts, rows[min(row + PREFETCH_DISTANCE, n_rows - 1), PREFIX])
        context = new_contexts[rows[row, PREFIX]]
        key = eviction_key(rows[row, LAST_SEEN], k, position, divisor, divisor_repeated)
        stays = context != NONE and key < cutoff
        before = rows[row, COUNT]
        after = before - (before >> np.uint32(1)) if stays else np.uint32(0)
        if after != before:
            if before <= 2:
                count_of_counts[before - 1] -= 1
            if 0 < after <= 2:
                count_of_counts[after - 1] += 1
            if context != NONE:
                context_rows[context, FOLLOWERS] -= before - after
                context_rows[context, DISTINCT] -= after == 0
                if context_rows[context, HINT] == rows[row, TOKEN]:
                    context_rows[context, HINT_COUNT] = after
                    if after == 0:
                        context_rows[context, HINT] = _UNKNOWN
        new_rows[row] = NONE
        if stays:
            new_rows[row] = n_kept
            rows[row, PREFIX] = context
            rows[row, COUNT] = after
            for column in range(rows.shape[1]):
                rows[n_kept, column] = rows[row, column]
            n_kept += 1
    return n_kept


@jit
def choose_hints(context_rows, n_contexts, rows, n_rows):
    """Give each context whose hint was evicted its follower of the largest count.

    A tie goes to the follower seen last. context_rows, rows: the tables of k - 1 and of k tokens,
    both already evicted from.
    """
    for row in range(n_rows):
        prefetch(context_rows, rows[min(row + PREFETCH_DISTANCE, n_rows - 1), PREFIX])
        context = rows[row, PREFIX]
        hint = context_rows[context, HINT]
        if hint < _UNKNOWN:
            continue
        largest = context_rows[context, HINT_COUNT]
        count = rows[row, COUNT]
        if count > largest or (
            0 < count == largest
            and rows[row, LAST_SEEN] & np.uint32(LAST_SEEN_MASK)
            > rows[hint & ~_UNKNOWN, LAST_SEEN] & np.uint32(LAST_SEEN_MASK)
        ):
            context_rows[context, HINT] = _UNKNOWN | np.uint32(row)
            context_rows[context, HINT_COUNT] = count
    for context in range(n_contexts):
        hint = context_rows[context, HINT]
        if hint >= _UNKNOWN:
            has_followers = context_rows[context, HINT_COUNT] > 0
            context_rows[context, HINT] = rows[hint & ~_UNKNOWN, TOKEN] if has_followers else 0
