"""The hints of each position, from tokens before it alone, and the votes for each hint."""

import numpy as np

from ngrammix.kernels import evidence as column
from ngrammix.kernels import match
from ngrammix.kernels.jit import bit_length, jit, prefetch

NONE = -1
MAX_HINTS = 5  # hints at a position
PREFETCH_DISTANCE = 6  # tokens

# Contexts vote by classes of lengths: the longest context with followers of each class. These are
# the lengths of the longest contexts of classes 0, 1, ...; the empty context does not vote.
LONGEST = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 63])
CLASS_OF_LENGTH = np.searchsorted(LONGEST, np.arange(LONGEST[-1] + 1))
N_CLASSES = len(LONGEST) - 1  # that vote
MAX_VOTES = 2 * N_CLASSES + 2

# Sources: the match model; 2 c - 1 and 2 c, the most frequent and the latest follower of the
# context of class c; the latest but one follower of the last token.
SOURCE_MATCH, SOURCE_RUNNER_UP = 0, 2 * N_CLASSES + 1
N_SOURCES = SOURCE_RUNNER_UP + 1

# Cells of the votes: the source and its confidence, in coarse steps.
_LENGTHS, _DISTANCES = 8, 16
_SHARES, _COUNTS, _AGES, _VARIETIES = 8, 8, 24, 4
_FREQUENT = _LENGTHS * _DISTANCES
_LATEST = _FREQUENT + N_CLASSES * _SHARES * _COUNTS * 2
_RUNNER_UP = _LATEST + N_CLASSES * _AGES * _VARIETIES * 2
N_CELLS = _RUNNER_UP + 8 * 2


@jit(error_model="numpy")
def propose(
    tokens, entries, starts, depth, matches, history, position, recent_followers, previous, hints,
    sources, vote_hints, vote_cells, n_votes,
):  # fmt: skip
    """Write the hints of each position, longest context first, then learn its token.

    tokens (T,) int64, or (0,) if the token of the one position is not known. entries, starts, depth
    (T,): as in kernels/evidence.py. matches (T, 3) uint32: of the positions. history (2**n,)
    uint32: ring of the stream's tokens, these included; the first one is at `position` of the
    stream. recent_followers (2**n, 2) int32, updated: the two latest different followers of a
    token. previous (T + 1,) int64: the token before each position; the first is given, the others
    are written.

    Written: hints (T, MAX_HINTS) int64, NONE after the last; sources (T, MAX_HINTS), which source
    proposed each hint first; vote_hints and vote_cells (T, MAX_VOTES), the hint and the cell of
    each vote; n_votes (T,). A position where no context of a token or more has followers gets no
    hints.
    """
    n_positions = len(depth)
    ring_mask = len(history) - 1
    reach = len(history) // 2  # tokens back; older parts of the ring depend on how calls are cut
    token, cell, source = np.empty((3, MAX_VOTES), np.int64)
    cursors, ahead = starts[:-1].copy(), starts[:-1].copy()
    for i in range(n_positions + PREFETCH_DISTANCE):
        if i < n_positions:
            k = np.int64(depth[i])
            c = CLASS_OF_LENGTH[k]
            while c > 0:
                prefetch(history, (position + i - entries[ahead[k], column.AGE]) & ring_mask)
                c -= 1
                k = LONGEST[c]
            for k in range(depth[i] + 1):
                ahead[k] += 1
        i -= PREFETCH_DISTANCE
        if i < 0:
            continue
        k = np.int64(depth[i])
        while k > 0 and entries[cursors[k], column.FOLLOWERS] == 0:
            k -= 1
        c = CLASS_OF_LENGTH[k]

        # 1. All votes, longest context first.
        n = 0
        if c > 0 and matches[i, match.LENGTH] > 0:
            near = min(bit_length(matches[i, match.DISTANCE]) // 2, _DISTANCES - 1)
            token[0], source[0] = matches[i, match.HINT], SOURCE_MATCH
            cell[0] = min(bit_length(matches[i, match.LENGTH]), _LENGTHS - 1) * _DISTANCES + near
            n = 1
        while c > 0:
            entry = entries[cursors[k]]
            n_followers = np.int64(entry[column.FOLLOWERS])
            n_distinct = np.int64(entry[column.DISTINCT])
            frequent = np.int64(entry[column.HINT])
            age = np.int64(entry[column.AGE])
            latest = NONE
            if 0 < age <= reach:
                latest = np.int64(history[(position + i - age) & ring_mask])
            agree = np.int64(frequent == latest)

            hint_count = entry[column.HINT_COUNT]
            share = np.int64(_SHARES * np.float64(hint_count) / (n_followers + 1.0))  # exact
            n_bits = min(bit_length(n_followers), _COUNTS - 1)
            token[n], source[n] = frequent, 2 * c - 1
            cell[n] = _FREQUENT + 2 * (((c - 1) * _SHARES + share) * _COUNTS + n_bits) + agree
            n += 1
            if latest != NONE:
                since, variety = min(bit_length(age), _AGES - 1), min(n_distinct, _VARIETIES) - 1
                token[n], source[n] = latest, 2 * c
                cell[n] = _LATEST + 2 * (((c - 1) * _AGES + since) * _VARIETIES + variety) + agree
                n += 1
            second = runner_up(previous[i], recent_followers) if c == 1 else NONE
            if second != NONE:
                token[n], source[n] = second, SOURCE_RUNNER_UP
                cell[n] = _RUNNER_UP + 2 * (min(n_distinct, 8) - 1) + np.int64(second == frequent)
                n += 1
            c -= 1
            k = LONGEST[c]

        # 2. The first MAX_HINTS distinct tokens are the hints; votes for other tokens are dropped.
        n_hints, n_kept = 0, 0
        for v in range(n):
            j = 0
            while j < n_hints and hints[i, j] != token[v]:
                j += 1
            if j == MAX_HINTS:
                continue
            if j == n_hints:
                hints[i, j], sources[i, j] = token[v], source[v]
                n_hints += 1
            vote_hints[i, n_kept], vote_cells[i, n_kept] = j, cell[v]
            n_kept += 1
        hints[i, n_hints:] = NONE
        n_votes[i] = n_kept

        for k in range(depth[i] + 1):
            cursors[k] += 1

        # 3. Only now the token itself.
        if len(tokens) > 0:
            add_follower(tokens[i], previous[i], recent_followers)
            previous[i + 1] = tokens[i]


@jit
def runner_up(previous, recent_followers):
    """Latest but one follower of the token `previous`, NONE if there is none."""
    if previous == NONE:
        return NONE
    return np.int64(recent_followers[previous & (len(recent_followers) - 1), 1])


@jit
def add_follower(token, previous, recent_followers):
    """Make `token` the latest follower of the token `previous`, unless that is NONE."""
    row = previous & (len(recent_followers) - 1)
    if previous != NONE and recent_followers[row, 0] != token:
        recent_followers[row, 1] = recent_followers[row, 0]
        recent_followers[row, 0] = token


@jit
def add_followers(tokens, previous, recent_followers):
    """Make each of tokens (T,) int64 the latest follower of the token before it.

    previous: the token before tokens[0], or NONE.
    """
    for i in range(len(tokens)):
        add_follower(tokens[i], previous, recent_followers)
        previous = tokens[i]
