"""The tokens that the strict prefix proposes at each position, and what speaks for each of them."""

import numpy as np

from ngrammix.kernels.jit import bit_length, jit, prefetch

NONE = -1
MAX_HINTS = 5  # hints at a position
MAX_CONTEXT = 8  # tokens of the longest context with a say; longer matches are the match model's
MAX_VOTES = 2 * MAX_CONTEXT + 2
PREFETCH_DISTANCE = 6  # tokens: so long before its turn the history is asked for

# Who speaks, by the rank of its context: the match, both followers of each context, the runner-up.
SOURCE_MATCH, SOURCE_RUNNER_UP = 0, 2 * MAX_CONTEXT + 1
N_SOURCES = SOURCE_RUNNER_UP + 1

# Cells of the votes: what is known of the source, in coarse steps.
_LENGTHS, _DISTANCES = 8, 16
_SHARES, _COUNTS, _AGES, _VARIETIES = 8, 8, 24, 4
_FREQUENT = _LENGTHS * _DISTANCES
_RECENT = _FREQUENT + MAX_CONTEXT * _SHARES * _COUNTS * 2
_SECOND = _RECENT + MAX_CONTEXT * _AGES * _VARIETIES * 2
N_CELLS = _SECOND + 8 * 2


@jit(error_model="numpy")
def propose(
    tokens, followers, distinct, hint, hint_count, age, length, match, distance, history, position,
    recent, previous, hints, sources, vote_hints, vote_cells, n_votes,
):  # fmt: skip
    """Name the hints of each position, longest context first; then its token is learned, if given.

    tokens (T,) or (0,) int64; followers, distinct, hint, hint_count, age (K, T) uint32: the
    evidence; length, match, distance (T,) uint32: the matches; history (2**n,) uint32: ring of the
    stream's tokens, these included, of which the first stands at `position` of the stream; recent
    (2**n, 2) int32: the last two different followers of a token; previous (T + 1,) int64, the first
    one given: the token before each, is written; so are hints (T, MAX_HINTS) int64, NONE for none,
    sources (T, MAX_HINTS), vote_hints and vote_cells (T, MAX_VOTES) and n_votes (T,).
    Where no context of a token or more is known there is no hint.
    """
    order, n_positions = followers.shape
    last = len(history) - 1
    reach = len(history) // 2  # so far back the ring is whole, whatever the cuts of the stream
    token, cell, source = np.empty((3, MAX_VOTES), np.int64)
    for i in range(n_positions):
        k = 0
        while k + 1 < order and k < MAX_CONTEXT and followers[k + 1, i] > 0:
            k += 1
        soon = min(i + PREFETCH_DISTANCE, n_positions - 1)
        for j in range(1, min(order, MAX_CONTEXT + 1)):
            prefetch(history, (position + soon - np.int64(age[j, soon])) & last)

        n = 0
        if k > 0 and length[i] > 0:
            near = min(bit_length(distance[i]) // 2, _DISTANCES - 1)
            token[0], source[0] = match[i], SOURCE_MATCH
            cell[0] = min(bit_length(length[i]), _LENGTHS - 1) * _DISTANCES + near
            n = 1
        while k > 0:
            n_followers, n_distinct = np.int64(followers[k, i]), np.int64(distinct[k, i])
            frequent, back = np.int64(hint[k, i]), np.int64(age[k, i])
            latest = NONE
            if 0 < back <= reach:
                latest = np.int64(history[(position + i - back) & last])
            agree = np.int64(frequent == latest)

            share = np.int64(_SHARES * np.float64(hint_count[k, i]) / (n_followers + 1.0))  # exact
            known = min(bit_length(n_followers), _COUNTS - 1)
            token[n], source[n] = frequent, 2 * k - 1
            cell[n] = _FREQUENT + 2 * (((k - 1) * _SHARES + share) * _COUNTS + known) + agree
            n += 1
            if latest != NONE:
                since, variety = min(bit_length(back), _AGES - 1), min(n_distinct, _VARIETIES) - 1
                token[n], source[n] = latest, 2 * k
                cell[n] = _RECENT + 2 * (((k - 1) * _AGES + since) * _VARIETIES + variety) + agree
                n += 1
            second = runner_up(previous[i], recent) if k == 1 else NONE
            if second != NONE:
                token[n], source[n] = second, SOURCE_RUNNER_UP
                cell[n] = _SECOND + 2 * (min(n_distinct, 8) - 1) + np.int64(second == frequent)
                n += 1
            k -= 1

        n_hints, n_heard = 0, 0
        for v in range(n):
            j = 0
            while j < n_hints and hints[i, j] != token[v]:
                j += 1
            if j == MAX_HINTS:  # goes unheard
                continue
            if j == n_hints:
                hints[i, j], sources[i, j] = token[v], source[v]
                n_hints += 1
            vote_hints[i, n_heard], vote_cells[i, n_heard] = j, cell[v]
            n_heard += 1
        hints[i, n_hints:] = NONE
        n_votes[i] = n_heard
        if len(tokens) > 0:
            remember(tokens[i], previous[i], recent)
            previous[i + 1] = tokens[i]


@jit
def runner_up(before, recent):
    """The follower of the token before that came last but one, NONE if there is none."""
    return NONE if before == NONE else np.int64(recent[before & (len(recent) - 1), 1])


@jit
def remember(token, before, recent):
    """Make `token` the latest follower of the token before it, if there is one."""
    row = before & (len(recent) - 1)
    if before != NONE and recent[row, 0] != token:
        recent[row, 1] = recent[row, 0]
        recent[row, 0] = token


@jit
def remember_all(tokens, before, recent):
    """Make each of tokens (T,) int64 the latest follower of the one before it, the first given."""
    for i in range(len(tokens)):
        remember(tokens[i], before, recent)
        before = tokens[i]
