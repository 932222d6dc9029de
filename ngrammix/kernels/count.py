"""The evidence of one order before each token, then the count of the token."""

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

# Columns of the evidence of one context.
EVIDENCE_FOLLOWERS, EVIDENCE_DISTINCT, EVIDENCE_TARGET_COUNT = range(3)
EVIDENCE_HINT, EVIDENCE_HINT_COUNT, EVIDENCE_AGE = range(3, 6)
N_COLUMNS = 6


@jit
def discount(count_of_counts):
    """Absolute discount of one order from n1 and n2, the n-grams counted once and twice: float32.

    n1 / (n1 + 2 n2) (Ney, Essen and Kneser 1994), with 3 and 4 added so that it starts at 0.75 and
    stays in (0, 1] for any counts.
    """
    n1 = count_of_counts[0]
    n2 = count_of_counts[1]
    return np.float32((n1 + 3.0) / (n1 + 2.0 * n2 + 4.0))


@jit
def count(
    tokens, contexts, nodes, last_seen, context_rows, rows, is_first_count, count_of_counts,
    evidence, discounts, position,
):  # fmt: skip
    """Write the evidence of the k-token contexts and count their tokens, position by position.

    tokens (T,) int64. contexts, nodes (T + 1,) uint32: node of the last k and of the last k + 1
    tokens before each position. last_seen (T + 1,) uint32: LAST_SEEN of the last k tokens without
    flags. context_rows, rows: the tables of k and of k + 1 tokens. is_first_count (T,) bool,
    updated in place: whether the (k + 2)-token n-gram was uncounted before this token (update
    exclusion); on return, the same for the (k + 1)-token n-gram; unchanged where that is NONE.
    count_of_counts (2,) int64, updated: n-grams of k + 1 tokens counted once, and twice. evidence
    (T, 6) uint32 and discounts (T,) float32 are written, unless they are empty. position: of
    tokens[0] in the stream.

    Update exclusion: an n-gram is counted only where the next longer one had no count, so its count
    is the number of its distinct left extensions, the continuation count of Kneser and Ney (1995).
    """
    n_tokens = len(tokens)
    has_evidence = len(evidence) > 0
    now = position + BEFORE_FIRST
    d = discount(count_of_counts)
    for i in range(n_tokens):
        later = min(i + PREFETCH_DISTANCE, n_tokens - 1)
        if nodes[later + 1] != NONE:
            prefetch(rows, nodes[later + 1])
            prefetch(context_rows, contexts[later])

        context = contexts[i]
        node = nodes[i + 1]
        if node == NONE:  # fewer than k tokens since the boundary: there is no context
            if has_evidence:
                for column in range(N_COLUMNS):
                    evidence[i, column] = 0
                discounts[i] = d
            continue
        before = rows[node, COUNT]
        if has_evidence:
            evidence[i, EVIDENCE_FOLLOWERS] = context_rows[context, FOLLOWERS]
            evidence[i, EVIDENCE_DISTINCT] = context_rows[context, DISTINCT]
            evidence[i, EVIDENCE_TARGET_COUNT] = before
            evidence[i, EVIDENCE_HINT] = context_rows[context, HINT]
            evidence[i, EVIDENCE_HINT_COUNT] = context_rows[context, HINT_COUNT]
            evidence[i, EVIDENCE_AGE] = now + i - last_seen[i] if last_seen[i] > 0 else 0
            discounts[i] = d

        is_counted = is_first_count[i]
        is_first_count[i] = before == 0
        if not is_counted:
            continue
        rows[node, COUNT] = before + 1
        context_rows[context, FOLLOWERS] += 1
        if before == 0:
            context_rows[context, DISTINCT] += 1
        if before + 1 >= context_rows[context, HINT_COUNT]:  # a tie goes to the latest token
            context_rows[context, HINT] = tokens[i]
            context_rows[context, HINT_COUNT] = before + 1
        if before <= 2:  # only these counts change n1, n2 and the discount
            if before > 0:
                count_of_counts[before - 1] -= 1
            if before < 2:
                count_of_counts[before] += 1
            d = discount(count_of_counts)


@jit
def count_orders(
    tokens, longest, shortest, nodes, last_seen, rows, is_first_count, counts_of_counts, evidence,
    discounts, start, position,
):  # fmt: skip
    """Count the tokens after their contexts of `longest` down to `shortest` tokens.

    The contexts of more than `longest` tokens are counted already. nodes, last_seen, rows,
    counts_of_counts: for each order, what `count` takes. evidence (order, N, 6) and discounts
    (order, N): [start, start + T) is written, or N is 0.
    """
    stop = min(start + len(tokens), discounts.shape[1])
    for k in range(longest, shortest - 1, -1):
        count(
            tokens, nodes[k], nodes[k + 1], last_seen[k], rows[k], rows[k + 1], is_first_count,
            counts_of_counts[k], evidence[k][start:stop], discounts[k][start:stop], position,
        )  # fmt: skip
