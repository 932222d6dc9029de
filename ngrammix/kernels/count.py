"""The evidence of one order before each token, then the count of the token."""

import numpy as np

from ngrammix.kernels import evidence
from ngrammix.kernels.find import is_dense
from ngrammix.kernels.index import (
    COLUMNS,
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    PREFETCH_DISTANCE,
    TOKEN,
)
from ngrammix.kernels.jit import jit, prefetch

_TOKEN = np.uint32(TOKEN)
_ONE, _WORD = np.uint64(1), np.uint64(32)
_NO, _YES, _TWO = np.uint32(0), np.uint32(1), np.uint32(2)


@jit(inline="always")
def add_follower(context_rows, context, before, token, count_of_counts):
    """Count `token` once more after a context that is open; it was counted `before` times."""
    followers = context + _ONE
    context_rows[followers, FOLLOWERS] += np.uint32(1)
    if before == 0:
        context_rows[followers, DISTINCT] += np.uint32(1)
    if before + 1 >= context_rows[followers, HINT_COUNT]:  # a tie goes to the latest token
        context_rows[followers, HINT] = token
        context_rows[followers, HINT_COUNT] = before + 1
    if before <= 2:  # only these counts change n1, n2 and the discount
        if before > 0:
            count_of_counts[before - 1] -= 1
        if before < 2:
            count_of_counts[before] += 1


@jit(inline="always")
def count(
    stream, begin, base, n_tokens, k, n_context, walks_all, has_evidence, places, n_places, known,
    contexts, grams, context_rows, rows, is_first_count, count_of_counts, entries, first_entry,
):  # fmt: skip
    """Write the evidence of the k-token contexts and count their tokens, position by position.

    stream, begin, base, known, places[:n_places], contexts, grams: as `find` left them; places and
    contexts of order k, grams of order k + 1. walks_all: walk the chunk instead of `places`. Where
    the context is new, only one more (k + 1)-gram is counted, once; n_context: tokens since the
    boundary before the chunk: where fewer than k precede, there is no context. context_rows, rows:
    the tables of k and of k + 1 tokens. is_first_count (T,) bool, updated in place: whether the
    (k + 2)-token n-gram was uncounted before this token (update exclusion); on return, the same for
    the (k + 1)-token n-gram. count_of_counts (2,) int64, updated: n-grams of k + 1 tokens counted
    once, and twice. entries (N, 8) uint32: the columns of kernels/evidence.py, written from
    `first_entry` on if `has_evidence`.

    Update exclusion: an n-gram is counted only where the next longer one had no count, so its count
    is the number of its distinct left extensions, the continuation count of Kneser and Ney (1995).
    """
    n_tokens, distance = np.uint64(n_tokens), np.uint64(PREFETCH_DISTANCE)
    n_carried = np.uint64(k == 0 or known[0] >= k)
    n = n_tokens if walks_all else np.uint64(n_places) + n_carried
    now = np.uint32(begin + base)
    begin = np.uint64(begin)
    n_missing = np.uint64(max(k - n_context, 0))  # places before the first context
    flat = context_rows.reshape(-1)  # one index is cheaper than two
    written, shift = entries.reshape(-1), np.uint64(3)  # 8 columns
    entry = np.uint64(first_entry) << shift
    once, twice = np.uint32(count_of_counts[0]), np.uint32(count_of_counts[1])
    next_place = min(n_missing, n_tokens)
    for a in range(n):
        b = a + distance
        if b < n:
            j = b if walks_all else np.uint64(places[b - n_carried]) + _ONE
            if has_evidence or (j < n_tokens and is_first_count[j]):
                prefetch(context_rows, np.uint64(np.uint32(contexts[j])))
                if walks_all or (j < n_tokens and known[j + _ONE] > k):
                    prefetch(rows, np.uint64(np.uint32(grams[j + _ONE])))
        i = a
        if walks_all:
            if known[i] < k:
                continue
        elif a >= n_carried:
            i = np.uint64(places[a - n_carried]) + _ONE
            if i == n_tokens:
                break
        once += np.uint32(i - next_place)
        next_place = i + _ONE
        is_counted = is_first_count[i]
        if not has_evidence and not is_counted:
            continue
        context = (np.uint64(np.uint32(contexts[i])) + _ONE) * np.uint64(COLUMNS)  # its second unit
        gram = np.uint64(np.uint32(grams[i + _ONE]))
        is_known = known[i + _ONE] > k
        before = rows[gram, COUNT] if is_known else _NO
        followers = flat[context + np.uint64(FOLLOWERS)]
        distinct = flat[context + np.uint64(DISTINCT)]
        hint, hint_count = flat[context + np.uint64(HINT)], flat[context + np.uint64(HINT_COUNT)]
        if has_evidence:
            last_seen = np.uint32(contexts[i] >> _WORD)
            written[entry + np.uint64(evidence.FOLLOWERS)] = followers
            written[entry + np.uint64(evidence.DISTINCT)] = distinct
            written[entry + np.uint64(evidence.HINT)] = hint
            written[entry + np.uint64(evidence.HINT_COUNT)] = hint_count
            written[entry + np.uint64(evidence.TARGET_COUNT)] = before
            age = now + np.uint32(i) - last_seen
            written[entry + np.uint64(evidence.AGE)] = age if last_seen != _NO else _NO
            written[entry + np.uint64(evidence.ONCE)] = once
            written[entry + np.uint64(evidence.TWICE)] = twice
            entry += _ONE << shift
        is_first_count[i] = before == _NO
        if is_counted:
            flat[context + np.uint64(FOLLOWERS)] = followers + _YES
            if before == _NO:
                flat[context + np.uint64(DISTINCT)] = distinct + _YES
            if is_known:
                rows[gram, COUNT] = before + _YES
            if before + _YES >= hint_count:  # a tie goes to the latest token
                flat[context + np.uint64(HINT)] = stream[begin + i] & _TOKEN
                flat[context + np.uint64(HINT_COUNT)] = before + _YES
            once += np.uint32(before == _NO) - np.uint32(before == _YES)
            twice += np.uint32(before == _YES) - np.uint32(before == _TWO)
    count_of_counts[0], count_of_counts[1] = once + np.uint32(n_tokens - next_place), twice


def specialised(walks_all, has_evidence):
    """Return `count` compiled for these two flags: known to the compiler, they save a tenth."""

    @jit
    def count_specialised(
        stream, begin, base, n_tokens, k, n_context, places, n_places, known, contexts, grams,
        context_rows, rows, is_first_count, count_of_counts, entries, first_entry,
    ):  # fmt: skip
        count(
            stream, begin, base, n_tokens, k, n_context, walks_all, has_evidence, places, n_places,
            known, contexts, grams, context_rows, rows, is_first_count, count_of_counts, entries,
            first_entry,
        )  # fmt: skip

    return count_specialised


count_sparse, count_dense = specialised(False, True), specialised(True, True)
learn_sparse, learn_dense = specialised(False, False), specialised(True, False)


@jit
def count_orders(
    stream, begin, base, n_tokens, longest, shortest, n_context, places, n_places, known, grams,
    rows, is_first_count, counts_of_counts, entries, starts, after,
):  # fmt: skip
    """Write the evidence of contexts of `longest` down to `shortest` tokens, and count the tokens.

    The contexts of more than `longest` tokens are counted already. places, n_places, grams, rows,
    counts_of_counts: for each order, what `count` takes. entries, starts: as in
    kernels/evidence.py; those of these orders are written. after (order, 2) int64 is written for
    these orders: counts_of_counts after the chunk.
    """
    for k in range(longest, shortest - 1, -1):
        if is_dense(n_places[k], n_tokens):
            count_dense(
                stream, begin, base, n_tokens, k, n_context, places[k], n_places[k], known,
                grams[k], grams[k + 1], rows[k], rows[k + 1], is_first_count, counts_of_counts[k],
                entries, starts[k],
            )  # fmt: skip
        else:
            count_sparse(
                stream, begin, base, n_tokens, k, n_context, places[k], n_places[k], known,
                grams[k], grams[k + 1], rows[k], rows[k + 1], is_first_count, counts_of_counts[k],
                entries, starts[k],
            )  # fmt: skip
        after[k] = counts_of_counts[k]


@jit
def learn_orders(
    stream, begin, base, n_tokens, longest, shortest, n_context, places, n_places, known, grams,
    rows, is_first_count, counts_of_counts, entries, starts, after,
):  # fmt: skip
    """`count_orders` without evidence."""
    for k in range(longest, shortest - 1, -1):
        if is_dense(n_places[k], n_tokens):
            learn_dense(
                stream, begin, base, n_tokens, k, n_context, places[k], n_places[k], known,
                grams[k], grams[k + 1], rows[k], rows[k + 1], is_first_count, counts_of_counts[k],
                entries, starts[k],
            )  # fmt: skip
        else:
            learn_sparse(
                stream, begin, base, n_tokens, k, n_context, places[k], n_places[k], known,
                grams[k], grams[k + 1], rows[k], rows[k + 1], is_first_count, counts_of_counts[k],
                entries, starts[k],
            )  # fmt: skip
