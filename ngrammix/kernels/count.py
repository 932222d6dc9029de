"""What the contexts of one order knew before each token, and then the token counted."""

import numpy as np

from ngrammix.kernels.find import (
    AHEAD,
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    NONE,
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
    tokens, k, grams, seen, context_entries, entries, fresh, counts_of_counts,
    fields, discounts, offset, position, record,
):  # fmt: skip
    """Write down what each k-token context knew, then count its token, position by position.

    tokens (T,) int64; grams (order + 1, T + 1) uint32, row k: node of the k tokens before each
    position; seen, the same shape: where those k tokens stood last, 0 for never; fresh (T,) bool:
    on entry whether the next longer n-gram is absent or had no count, on exit the same of this one
    (one that is absent leaves it True); counts_of_counts (order, 2) int64: n-grams of each order
    counted once, twice; position: of tokens[0] in the stream. If `record`, positions `offset`.. of
    fields (order, N, 6) uint32 and of discounts (order, N) float32 are written.

    Update exclusion: an n-gram is counted only where the next longer one had no count, so its count
    is the number of its distinct left extensions, Kneser and Ney's (1995) continuation count.
    """
    n_tokens = len(tokens)
    contexts = grams[k]
    children = grams[k + 1]
    last_seen = seen[k]
    n_once_twice = counts_of_counts[k]
    d = discount(n_once_twice)
    for i in range(n_tokens):
        ahead = min(i + AHEAD, n_tokens - 1)
        if children[ahead + 1] != NONE:
            prefetch(entries, children[ahead + 1])
            prefetch(context_entries, contexts[ahead])

        context = contexts[i]
        gram = children[i + 1]
        if gram == NONE:  # too few tokens since the boundary: there is no such context
            if record:
                for field in range(N_FIELDS):
                    fields[k, offset + i, field] = 0
                discounts[k, offset + i] = d
            continue
        before = entries[gram, COUNT]
        if record:
            fields[k, offset + i, SEEN_FOLLOWERS] = context_entries[context, FOLLOWERS]
            fields[k, offset + i, SEEN_DISTINCT] = context_entries[context, DISTINCT]
            fields[k, offset + i, SEEN_TARGET_COUNT] = before
            fields[k, offset + i, SEEN_HINT] = context_entries[context, HINT]
            fields[k, offset + i, SEEN_HINT_COUNT] = context_entries[context, HINT_COUNT]
            fields[k, offset + i, SEEN_AGE] = position + i - last_seen[i] if last_seen[i] > 0 else 0
            discounts[k, offset + i] = d

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
                n_once_twice[before - 1] -= 1
            if before < 2:
                n_once_twice[before] += 1
            d = discount(n_once_twice)
