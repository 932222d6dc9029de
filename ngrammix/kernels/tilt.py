"""The tilt: the model's share of each hint, one after the other, corrected, then learned from."""

import math

import numpy as np

from ngrammix.kernels.hints import MAX_HINTS, MAX_VOTES, N_CELLS, N_SOURCES, NONE
from ngrammix.kernels.jit import jit, prefetch

ODDS_BINS, ENTROPY_BINS = 16, 8
TOKEN_BITS, PAIR_BITS = 18, 17
SOURCE_MODEL = N_SOURCES  # named the model's own token
CHAIN_LENGTH = MAX_HINTS + 1  # chain: all hints, and the model's own token
MAX_ROWS = 3 * CHAIN_LENGTH + MAX_VOTES

# One table of weights: (weight, sum of squared gradients) a row; what each row is for begins here.
OF_TOKEN = 0
OF_PAIR = OF_TOKEN + (1 << TOKEN_BITS)
OF_SOURCE = OF_PAIR + (1 << PAIR_BITS)
OF_VOTE = OF_SOURCE + (N_SOURCES + 1) * ODDS_BINS * ENTROPY_BINS
N_ROWS = OF_VOTE + N_CELLS

PREFETCH_DISTANCE = 4  # tokens: so long before its turn the row of a pair of tokens is asked for
LEAST = 2.0**-16  # of the model's mass must be left beside a hint: below, 1 - p is noise
RATE, SLOPE_RATE = 0.2, 0.05
_TINY = 1e-200
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)  # of MurmurHash3's finalizer


@jit
def token_row(token, odds_bin):
    """Row of a hint and of the model's odds of it; with over 16,384 tokens rows are shared."""
    return OF_TOKEN + ((token * ODDS_BINS + odds_bin) & ((1 << TOKEN_BITS) - 1))


@jit
def pair_row(token, previous):
    """Row of a hint and of the token before it, by a hash: rows are shared."""
    code = (np.uint64(token) << np.uint64(32)) + np.uint64(previous + 1)
    code = (code ^ (code >> np.uint64(29))) * _MURMUR
    return OF_PAIR + np.int64(code >> np.uint64(64 - PAIR_BITS))


@jit
def source_row(source, odds_bin, entropy_bin):
    """Row of who named a hint, of the model's odds of it and of the model's entropy."""
    return OF_SOURCE + (source * ODDS_BINS + odds_bin) * ENTROPY_BINS + entropy_bin


@jit(inline="always")
def line_up(
    i, target, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells,
    n_votes, of_odds, weights, places, named, slopes, odds, logits, rows, owners,
):  # fmt: skip
    """Line up position i's hints as far as the target, or all of them, the model's own token last.

    target: a token, or NONE; the arrays up to n_votes are as long as the stream; of_odds
    (CHAIN_LENGTH, 2) and weights (N_ROWS, 2) are what was learned. Of the mass that the hints
    before it leave, the model's share of a hint is r; it becomes r' = sigmoid(slope logit r +
    weights). Written are places (CHAIN_LENGTH,), each hint's place in the line or NONE; by place
    named (CHAIN_LENGTH,), the token, slopes, the number of its slope, odds, logit r, and logits,
    logit r'; rows, owners (MAX_ROWS,), all weights that count and the places they count for. A hint
    that the model rules out, or beside which it leaves nothing, has no place. Returns
    (length of the line, whether it ends at the target, number of rows, the model's mass left).
    """
    entropy_bin = min(np.int64(entropy[i]), ENTROPY_BINS - 1)
    n, n_rows = 0, 0
    left = 1.0
    is_met, is_own_named = False, False
    for j in range(CHAIN_LENGTH):
        places[j] = NONE
        is_own = j == MAX_HINTS
        token = top[i] if is_own else hints[i, j]
        if is_met or token == NONE or (is_own and is_own_named):
            continue
        is_own_named |= token == top[i]
        p = math.exp(log_top[i] if is_own else log_hints[i, j])
        rest = left - p
        if p == 0.0 or rest < LEAST:
            continue
        left = rest
        places[j], named[n], slopes[n] = n, token, j
        odds[n] = math.log(p / rest)
        odds_bin = min(max(np.int64(math.floor(odds[n])) + ODDS_BINS // 2, 0), ODDS_BINS - 1)
        source = SOURCE_MODEL if is_own else np.int64(sources[i, j])
        rows[n_rows] = token_row(token, odds_bin)
        rows[n_rows + 1] = pair_row(token, previous[i])
        rows[n_rows + 2] = source_row(source, odds_bin, entropy_bin)
        owners[n_rows], owners[n_rows + 1], owners[n_rows + 2] = n, n, n
        z = of_odds[j, 0] * odds[n] + weights[rows[n_rows], 0]
        logits[n] = z + weights[rows[n_rows + 1], 0] + weights[rows[n_rows + 2], 0]
        n += 1
        n_rows += 3
        is_met = token == target
    for v in range(n_votes[i]):
        if places[vote_hints[i, v]] != NONE:
            row, place = OF_VOTE + np.int64(vote_cells[i, v]), places[vote_hints[i, v]]
            rows[n_rows], owners[n_rows] = row, place
            logits[place] += weights[row, 0]
            n_rows += 1
    return n, is_met, n_rows, left


@jit(inline="always")
def break_stick(n, is_met, logits, shares):
    """Mass that the n hints in the line leave, or that the last one takes if it is the target's.

    logits (n,) of r', the part of what is left that each takes; shares (n,), r', is written.
    Returns the mass, and the log of a factor too small for it.
    """
    kept, log_more = 1.0, 0.0
    for j in range(n):
        z = logits[j]
        small = math.exp(-abs(z))  # 0 below e**-745: then only the log can tell
        large = 1.0 / (1.0 + small)
        small *= large
        shares[j] = large if z > 0.0 else small
        takes = is_met and j == n - 1
        factor = large if (z > 0.0) == takes else small
        if factor < _TINY:
            log_more -= abs(z)
        else:
            kept *= factor
        if kept < _TINY:
            log_more += math.log(kept)
            kept = 1.0
    return kept, log_more


@jit(error_model="numpy")
def tilt(
    targets, log_p, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints,
    vote_cells, n_votes, of_odds, weights, tilted,
):  # fmt: skip
    """Log-probability of each target after the tilt, each learned from before the next.

    targets, previous, top (T,) int64; log_p, entropy, log_top (T,) float64 nats; hints, sources
    (T, MAX_HINTS), log_hints (T, MAX_HINTS) float64 nats; vote_hints, vote_cells (T, S), n_votes
    (T,); of_odds (CHAIN_LENGTH, 2) and weights (N_ROWS, 2) float64; tilted (T,) float64 nats is
    written: log_p itself where there is no vote. Weights follow the gradient by AdaGrad (Duchi,
    Hazan and Singer 2011).
    """
    n_tokens = len(targets)
    places, named, slopes = np.empty((3, CHAIN_LENGTH), np.int64)
    odds, logits, shares, errors = np.empty((4, CHAIN_LENGTH))
    rows, owners = np.empty((2, MAX_ROWS), np.int64)
    squares, steps = np.empty((2, MAX_ROWS))
    for i in range(n_tokens):
        ahead = min(i + PREFETCH_DISTANCE, n_tokens - 1)
        for j in range(MAX_HINTS):
            prefetch(weights, pair_row(hints[ahead, j], previous[ahead]))
        if n_votes[i] == 0:
            tilted[i] = log_p[i]
            continue
        n, is_met, n_rows, left = line_up(
            i, targets[i], entropy, previous, hints, log_hints, top, log_top, sources, vote_hints,
            vote_cells, n_votes, of_odds, weights, places, named, slopes, odds, logits, rows,
            owners,
        )  # fmt: skip
        kept, log_more = break_stick(n, is_met, logits, shares)
        tilted[i] = log_more + (math.log(kept) if is_met else math.log(kept / left) + log_p[i])

        for j in range(n):
            errors[j] = -shares[j]
        if is_met:
            errors[n - 1] += 1.0
        for j in range(n):
            slope, gradient = slopes[j], errors[j] * odds[j]
            of_odds[slope, 1] += gradient * gradient
            of_odds[slope, 0] += SLOPE_RATE * gradient / math.sqrt(1.0 + of_odds[slope, 1])
        for a in range(n_rows):  # three loops, of which the costly one runs in vectors
            error = errors[owners[a]]
            steps[a] = RATE * error
            weights[rows[a], 1] += error * error
            squares[a] = weights[rows[a], 1]
        for a in range(n_rows):
            steps[a] /= math.sqrt(1.0 + squares[a])
        for a in range(n_rows):
            weights[rows[a], 0] += steps[a]


@jit
def line(
    entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells, n_votes,
    of_odds, weights, named, shares,
):  # fmt: skip
    """The whole line of one position: (length, the model's mass left), with named and shares."""
    places, slopes = np.empty((2, CHAIN_LENGTH), np.int64)
    odds, logits = np.empty((2, CHAIN_LENGTH))
    rows, owners = np.empty((2, MAX_ROWS), np.int64)
    n, is_met, _, left = line_up(
        0, NONE, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells,
        n_votes, of_odds, weights, places, named, slopes, odds, logits, rows, owners,
    )  # fmt: skip
    break_stick(n, is_met, logits, shares)
    return n, left
