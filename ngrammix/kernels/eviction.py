"""Which n-grams of a full table are kept, and how every sum is left as it must be."""

import numpy as np

from ngrammix.kernels.find import (
    BEFORE_FIRST,
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    LAST,
    LAST_MASK,
    NONE,
    PREFETCH_DISTANCE,
    PREFIX,
    REDUNDANT,
    REPEATED,
    TOKEN,
)
from ngrammix.kernels.jit import jit, prefetch

_UNKNOWN = np.uint32(0x80000000)  # in HINT, beside the row of a candidate: no token is that large


@jit
def staleness(last, k, position, shortest, repeated):
    """Drop the n-gram of k tokens with the larger one: int64.

    The tokens since its last sight began; if it was seen twice, a `repeated`-th of that; else, if
    no suffix of it was made with it, a `shortest`-th. In a stream no n-gram is less stale than its
    prefix or its suffix, which are seen wherever it is: so what is kept has all its contexts, and a
    longer context is never known where a shorter one is not.
    """
    age = position + BEFORE_FIRST + k - np.int64(last & np.uint32(LAST_MASK))
    if last & np.uint32(REPEATED):
        return age // repeated
    return age if last & np.uint32(REDUNDANT) else age // shortest


@jit
def count_stale(entries, n_rows, k, position, shortest, repeated, width, histogram):
    """Add the n-grams of k tokens to histogram (L,) int64: their staleness, by `width`."""
    for row in range(n_rows):
        level = staleness(entries[row, LAST], k, position, shortest, repeated) // width
        histogram[level] += 1


@jit
def forget(
    entries, n_rows, k, position, shortest, repeated, cutoff, contexts, moved_contexts, moved,
    once_twice,
):  # fmt: skip
    """Drop the n-grams of k tokens that are stale from `cutoff` on, close up the others: how many.

    One whose prefix was dropped goes too, however fresh. The counts of the others are halved,
    rounded up. entries: the n-grams; contexts: those of k - 1 tokens, closed up before;
    moved_contexts, moved (at least n_rows,) uint32: new row of each old one, NONE if dropped;
    `moved` is written; once_twice (2,) int64: n-grams of k tokens counted once, twice.
    """
    kept = 0
    for row in range(n_rows):
        prefetch(moved_contexts, entries[min(row + PREFETCH_DISTANCE, n_rows - 1), PREFIX])
        context = moved_contexts[entries[row, PREFIX]]
        age = staleness(entries[row, LAST], k, position, shortest, repeated)
        is_kept = context != NONE and age < cutoff
        before = entries[row, COUNT]
        after = before - (before >> np.uint32(1)) if is_kept else np.uint32(0)
        if after != before:
            if before <= 2:
                once_twice[before - 1] -= 1
            if 0 < after <= 2:
                once_twice[after - 1] += 1
            if context != NONE:
                contexts[context, FOLLOWERS] -= before - after
                contexts[context, DISTINCT] -= after == 0
                if contexts[context, HINT] == entries[row, TOKEN]:
                    contexts[context, HINT_COUNT] = after
                    if after == 0:
                        contexts[context, HINT] = _UNKNOWN
        moved[row] = NONE
        if is_kept:
            moved[row] = kept
            entries[row, PREFIX] = context
            entries[row, COUNT] = after
            for column in range(entries.shape[1]):
                entries[kept, column] = entries[row, column]
            kept += 1
    return kept


@jit
def find_hints(contexts, n_contexts, entries, n_rows):
    """Give each context whose hint was dropped the next: the largest count; of equals, the latest.

    contexts, entries: the n-grams of k - 1 and of k tokens, both closed up.
    """
    for row in range(n_rows):
        prefetch(contexts, entries[min(row + PREFETCH_DISTANCE, n_rows - 1), PREFIX])
        context = entries[row, PREFIX]
        hint = contexts[context, HINT]
        if hint < _UNKNOWN:
            continue
        best = contexts[context, HINT_COUNT]
        count = entries[row, COUNT]
        if count > best or (
            0 < count == best
            and entries[row, LAST] & np.uint32(LAST_MASK)
            > entries[hint & ~_UNKNOWN, LAST] & np.uint32(LAST_MASK)
        ):
            contexts[context, HINT] = _UNKNOWN | np.uint32(row)
            contexts[context, HINT_COUNT] = count
    for context in range(n_contexts):
        hint = contexts[context, HINT]
        if hint >= _UNKNOWN:
            is_known = contexts[context, HINT_COUNT] > 0
            contexts[context, HINT] = entries[hint & ~_UNKNOWN, TOKEN] if is_known else 0
