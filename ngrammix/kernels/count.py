"""What the contexts of one order knew before each token, and then the token counted."""

import numpy as np

from ngrammix.kernels.find import (
    BEFORE_FIRST,
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    NONE,
    PREFETCH_DISTANCE,
)
from ngrammix.kernels.jit import jit, prefetch

# Columns of the evidence.
SEEN_FOLLOWERS, SEEN_DISTINCT, SEEN_TARGET_COUNT, SEEN_HINT, SEEN_HINT_COUNT, SEEN_AGE = range(6)
N_FIELDS = 6


@jit
def discount(counts_of_counts):
    """Absolute discount of one order from n1 and n2, the n-grams counted once and twice: float32.

    n1 / (n1 + 2 n2) (Ney, Essen and Kneser 1994), with 3 and 4 added so that it starts at 0.75 and
    stays in (0, 1] whatever the counts are.
    """
    n1 = counts_of_counts[0]
    n2 = counts_of_counts[1]
    return np.float32((n1 + 3.0) / (n1 + 2.0 * n2 + 4.0))


@jit
def count(
    tokens, k, contexts, children, seen, context_entries, entries, fresh, once_twice,
    fields, discounts, position,
):  # fmt: skip
    """Write down what each k-token context knew, then count its token, position by position.

    tokens (T,) int64; contexts, children (T + 1,) uint32: node of the last k, and of the last
    k + 1, tokens before each position; seen (T + 1,) uint32: what LAST said of the last k tokens;
    fresh (T,) bool: on entry whether the next longer n-gram is absent or had no count, on exit the
    same of this one (one that is absent leaves it True); once_twice (2,) int64: n-grams of k + 1
    tokens that were counted once, twice; position: of tokens[0] in the stream. fields (T, 6) uint32
    and discounts (T,) float32 are written, unless they are empty.

    Update exclusion: an n-gram is counted only where the next longer one had no count, so its count
    is the number of its distinct left extensions, Kneser and Ney's (1995) continuation count.
    """
    n_tokens = len(tokens)
    records = len(fields) > 0
    now = position + BEFORE_FIRST
    d = discount(once_twice)
    for i in range(n_tokens):
        ahead = min(i + PREFETCH_DISTANCE, n_tokens - 1)
        if children[ahead + 1] != NONE:
            prefetch(entries, children[ahead + 1])
            prefetch(context_entries, contexts[ahead])

        context = contexts[i]
        gram = children[i + 1]
        if gram == NONE:  # too few tokens since the boundary: there is no such context
            if records:
                for field in range(N_FIELDS):
                    fields[i, field] = 0
                discounts[i] = d
            continue
        before = entries[gram, COUNT]
        if records:
            fields[i, SEEN_FOLLOWERS] = context_entries[context, FOLLOWERS]
            fields[i, SEEN_DISTINCT] = context_entries[context, DISTINCT]
            fields[i, SEEN_TARGET_COUNT] = before
            fields[i, SEEN_HINT] = context_entries[context, HINT]
            fields[i, SEEN_HINT_COUNT] = context_entries[context, HINT_COUNT]
            fields[i, SEEN_AGE] = now + i - seen[i] if seen[i] > 0 else 0
            discounts[i] = d

        is_counted = fresh[i]
        fresh[i] = before == 0
        if not is_counted:
            continue
        entries[gram, COUNT] = before + 1
        context_entries[context, FOLLOWERS] += 1
        if before == 0:
            context_entries[context, DISTINCT] += 1
        if before + 1 >= context_entries[context, HINT_COUNT]:  # of equals, the latest
            context_entries[context, HINT] = tokens[i]
            context_entries[context, HINT_COUNT] = before + 1
        if before <= 2:  # n1 and n2 move only here, and the discount with them
            if before > 0:
                once_twice[before - 1] -= 1
            if before < 2:
                once_twice[before] += 1
            d = discount(once_twice)


@jit
def count_orders(
    tokens, longest, shortest, grams, seen, entries, fresh, counts_of_counts, fields, discounts,
    start, position,
):  # fmt: skip
    """Count what follows the contexts of `longest` down to `shortest` tokens, after longer ones.

    grams, seen, entries, counts_of_counts: for each order what `count` takes; fields (order, N, 6)
    and discounts (order, N), of which [start, start + T) is written, or N is 0.
    """
    stop = min(start + len(tokens), discounts.shape[1])
    for k in range(longest, shortest - 1, -1):
        count(
            tokens, k, grams[k], grams[k + 1], seen[k], entries[k], entries[k + 1], fresh,
            counts_of_counts[k], fields[k][start:stop], discounts[k][start:stop], position,
        )  # fmt: skip
