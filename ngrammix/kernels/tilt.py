"""The tilt's pass: stick-breaking over the hints of a position, learned after each token.

The chain of a position is its hints, longest context first, and then the model's most probable
token. Link j has the model's share r_j of the mass that the links before it leave; the tilt makes
it r'_j = sigmoid(slope_j logit r_j + weights_j): equations (1) to (3) of docs/explanation/mixer.md.
"""

import math

import numpy as np

from ngrammix.kernels.hints import MAX_HINTS, MAX_VOTES, N_CELLS, N_SOURCES, NONE
from ngrammix.kernels.jit import jit, prefetch

ODDS_BINS, ENTROPY_BINS = 16, 8
TOKEN_BITS, PAIR_BITS = 18, 17
SOURCE_MODEL = N_SOURCES  # the source of the model's most probable token
CHAIN_LENGTH = MAX_HINTS + 1  # the hints and the model's most probable token
MAX_ROWS = 3 * CHAIN_LENGTH + MAX_VOTES

# The first row of each kind of weight in the one table of weights.
OF_TOKEN = 0
OF_PAIR = OF_TOKEN + (1 << TOKEN_BITS)
OF_SOURCE = OF_PAIR + (1 << PAIR_BITS)
OF_VOTE = OF_SOURCE + (N_SOURCES + 1) * ODDS_BINS * ENTROPY_BINS
N_ROWS = OF_VOTE + N_CELLS

PREFETCH_DISTANCE = 4  # positions ahead whose row of a token pair is prefetched
MIN_MASS = 2.0**-16  # least mass of the model beside a hint: below, 1 - p is rounding error
RATE, SLOPE_RATE = 0.2, 0.05
_TINY = 1e-200
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)  # of MurmurHash3's finalizer


@jit
def token_row(token, odds_bin):
    """Row of (hint, the model's odds of it); vocabularies over 16,384 tokens share rows."""
    return OF_TOKEN + ((token * ODDS_BINS + odds_bin) & ((1 << TOKEN_BITS) - 1))


@jit
def pair_row(token, previous):
    """Row of (hint, token before it), hashed: pairs can share a row."""
    code = (np.uint64(token) << np.uint64(32)) + np.uint64(previous + 1)
    code = (code ^ (code >> np.uint64(29))) * _MURMUR
    return OF_PAIR + np.int64(code >> np.uint64(64 - PAIR_BITS))


@jit
def source_row(source, odds_bin, entropy_bin):
    """Row of (source of the hint, the model's odds of it, the model's entropy)."""
    return OF_SOURCE + (source * ODDS_BINS + odds_bin) * ENTROPY_BINS + entropy_bin


@jit(inline="always")
def build_chain(
    i, target, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells,
    n_votes, slopes, weights, chain_index, tokens, slope_index, log_odds, logits, rows,
    chain_of_weight,
):  # fmt: skip
    """Write the chain of position i up to the target, or the full chain if target is NONE.

    entropy to weights are those of `mix`. Written are, by candidate, chain_index (CHAIN_LENGTH,)
    int64, its link, NONE if it has no link; by link (CHAIN_LENGTH,), tokens int64, slope_index
    int64, the row of its slope, log_odds float64, logit r, and logits float64, logit r'; by weight
    (MAX_ROWS,) int64, rows, the row of the weight, and chain_of_weight, its link. A candidate has
    no link if its probability is 0 or the model has less than MIN_MASS beside it.

    Returns (number of links, whether the last one is the target, number of weights, the model's
    mass beside the chain).
    """
    entropy_bin = min(np.int64(entropy[i]), ENTROPY_BINS - 1)
    n, n_rows = 0, 0
    mass = 1.0
    ends_at_target, has_top = False, False
    for j in range(CHAIN_LENGTH):
        chain_index[j] = NONE
        is_top = j == MAX_HINTS
        token = top[i] if is_top else hints[i, j]
        if ends_at_target or token == NONE or (is_top and has_top):
            continue
        has_top |= token == top[i]
        p = math.exp(log_top[i] if is_top else log_hints[i, j])
        rest = mass - p
        if p == 0.0 or rest < MIN_MASS:
            continue
        mass = rest
        chain_index[j], tokens[n], slope_index[n] = n, token, j
        x = math.log(p / rest)
        log_odds[n] = x
        odds_bin = min(max(np.int64(math.floor(x)) + ODDS_BINS // 2, 0), ODDS_BINS - 1)
        source = SOURCE_MODEL if is_top else np.int64(sources[i, j])
        rows[n_rows] = token_row(token, odds_bin)
        rows[n_rows + 1] = pair_row(token, previous[i])
        rows[n_rows + 2] = source_row(source, odds_bin, entropy_bin)
        z = slopes[j, 0] * x
        for a in range(n_rows, n_rows + 3):
            chain_of_weight[a] = n
            z += weights[rows[a], 0]
        n_rows += 3
        logits[n] = z
        n += 1
        ends_at_target = token == target
    for v in range(n_votes[i]):
        link = chain_index[vote_hints[i, v]]
        if link != NONE:
            row = OF_VOTE + np.int64(vote_cells[i, v])
            rows[n_rows], chain_of_weight[n_rows] = row, link
            logits[link] += weights[row, 0]
            n_rows += 1
    return n, ends_at_target, n_rows, mass


@jit(inline="always")
def stick_breaking(n, ends_at_target, logits, shares):
    """Probability of the last link if it is the target, else of all tokens beside the n links.

    logits (n,) of r'; shares (n,) float64, r', is written. Returns the probability as (a factor,
    the log of a second factor, which can be too small for float64).
    """
    factor, log_factor = 1.0, 0.0
    for j in range(n):
        z = logits[j]
        small = math.exp(-abs(z))  # 0 below e**-745: only the log is exact then
        large = 1.0 / (1.0 + small)
        small *= large
        shares[j] = large if z > 0.0 else small
        is_target = ends_at_target and j == n - 1
        term = large if (z > 0.0) == is_target else small
        if term < _TINY:
            log_factor -= abs(z)
        else:
            factor *= term
        if factor < _TINY:
            log_factor += math.log(factor)
            factor = 1.0
    return factor, log_factor


@jit(error_model="numpy")
def mix(
    targets, log_p, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints,
    vote_cells, n_votes, slopes, weights, log_mixed,
):  # fmt: skip
    """Log-probability of each target under the tilt, which then learns from the target.

    targets (T,) int64; of the model log_p, entropy, log_top (T,) and log_hints (T, MAX_HINTS)
    float64 nats, top (T,) int64; previous (T,) int64, the token before; hints (T, MAX_HINTS) int64,
    NONE for none; sources (T, MAX_HINTS), the source of each hint; vote_hints, vote_cells
    (T, MAX_VOTES), the hint and the cell of each vote; n_votes (T,), 0 where no context was seen
    before; slopes (CHAIN_LENGTH, 2) and weights (N_ROWS, 2) float64, value and sum of squared
    gradients, updated by AdaGrad (Duchi, Hazan and Singer 2011); log_mixed (T,) float64 nats is
    written: log_p where there is no vote.
    """
    n_tokens = len(targets)
    chain_index, tokens, slope_index = np.empty((3, CHAIN_LENGTH), np.int64)
    log_odds, logits, shares, errors = np.empty((4, CHAIN_LENGTH))
    rows, chain_of_weight = np.empty((2, MAX_ROWS), np.int64)
    squares, steps = np.empty((2, MAX_ROWS))
    for i in range(n_tokens):
        ahead = min(i + PREFETCH_DISTANCE, n_tokens - 1)
        for j in range(MAX_HINTS):
            prefetch(weights, pair_row(hints[ahead, j], previous[ahead]))
        if n_votes[i] == 0:
            log_mixed[i] = log_p[i]
            continue
        n, ends_at_target, n_rows, mass = build_chain(
            i, targets[i], entropy, previous, hints, log_hints, top, log_top, sources, vote_hints,
            vote_cells, n_votes, slopes, weights, chain_index, tokens, slope_index, log_odds,
            logits, rows, chain_of_weight,
        )  # fmt: skip
        factor, log_factor = stick_breaking(n, ends_at_target, logits, shares)
        if ends_at_target:
            log_mixed[i] = log_factor + math.log(factor)
        else:
            log_mixed[i] = log_factor + (math.log(factor / mass) + log_p[i])

        for j in range(n):
            errors[j] = -shares[j]
        if ends_at_target:
            errors[n - 1] += 1.0
        for j in range(n):
            row, gradient = slope_index[j], errors[j] * log_odds[j]
            slopes[row, 1] += gradient * gradient
            slopes[row, 0] += SLOPE_RATE * gradient / math.sqrt(1.0 + slopes[row, 1])
        for a in range(n_rows):  # three loops: the one with the square roots is vectorized
            error = errors[chain_of_weight[a]]
            steps[a] = RATE * error
            weights[rows[a], 1] += error * error
            squares[a] = weights[rows[a], 1]
        for a in range(n_rows):
            steps[a] /= math.sqrt(1.0 + squares[a])
        for a in range(n_rows):
            weights[rows[a], 0] += steps[a]


@jit
def full_chain(
    entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells, n_votes,
    slopes, weights, tokens, shares,
):  # fmt: skip
    """Write tokens and shares of the full chain of one position; arrays as in `mix`, T = 1.

    Returns (number of links, the model's mass beside the chain).
    """
    chain_index, slope_index = np.empty((2, CHAIN_LENGTH), np.int64)
    log_odds, logits = np.empty((2, CHAIN_LENGTH))
    rows, chain_of_weight = np.empty((2, MAX_ROWS), np.int64)
    n, _, _, mass = build_chain(
        0, NONE, entropy, previous, hints, log_hints, top, log_top, sources, vote_hints, vote_cells,
        n_votes, slopes, weights, chain_index, tokens, slope_index, log_odds, logits, rows,
        chain_of_weight,
    )  # fmt: skip
    stick_breaking(n, False, logits, shares)
    return n, mass
