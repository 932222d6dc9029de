"""The sequential passes of the mixer: each token is mixed, and only then learned from."""

import math

import numpy as np

from ngrammix.kernels.jit import jit

CONFIDENCE_BINS, ENTROPY_BINS = 5, 3
CELLS_PER_ORDER = CONFIDENCE_BINS * ENTROPY_BINS
NO_CELL = -1


@jit
def log_mix(log_weight_a, log_a, log_weight_b, log_b):
    """Log of the mixture of e**log_a and e**log_b; exactly log_a where the two are equal."""
    if log_a == log_b:
        return log_a
    a = log_weight_a + log_a
    b = log_weight_b + log_b
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


@jit
def softplus(x):
    """log(1 + e**x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@jit
def gate_cells(followers, hint_count, entropy, cells):
    """Address of the gate's weight at each position: what the strict prefix and the model say.

    followers, hint_count (order, T) uint32; entropy (T,) float64 nats; cells (T,) int64 is written:
    NO_CELL where no context of a token or more is known, else that of (tokens of the longest known,
    confidence in its hint, the model's entropy in steps of 2 nats). Confidence is the hint's count
    over one more than the followers, so that a single sight is not certainty.
    """
    order, n_tokens = followers.shape
    for i in range(n_tokens):
        k = 0
        while k + 1 < order and followers[k + 1, i] > 0:
            k += 1
        if k == 0:
            cells[i] = NO_CELL
            continue
        confidence = CONFIDENCE_BINS * np.int64(hint_count[k, i]) // (np.int64(followers[k, i]) + 1)
        uncertainty = min(np.int64(entropy[i] / 2.0), ENTROPY_BINS - 1)
        cells[i] = (k * CONFIDENCE_BINS + confidence) * ENTROPY_BINS + uncertainty


@jit
def gate(log_p, log_q, cells, won, tried, mixed):
    """Mix linearly with the weight w = won / tried of the cell, then learn it.

    log_p, log_q (T,) float64 nats; cells (T,) int64; won, tried (C,) float64; mixed (T,) float64:
    log((1 - w) p + w q) is written, log_p itself where there is no cell. Then won += w q / mixture,
    the posterior that the cache wrote the token: the online EM step for a mixture's weight.
    """
    for i in range(len(log_p)):
        cell = cells[i]
        if cell == NO_CELL:
            mixed[i] = log_p[i]
            continue
        log_w = math.log(won[cell] / tried[cell])
        log_rest = math.log1p(-won[cell] / tried[cell])
        mixed[i] = log_mix(log_rest, log_p[i], log_w, log_q[i])
        won[cell] += math.exp(log_w + log_q[i] - mixed[i])
        tried[cell] += 1.0


@jit
def guard(log_p, log_inner, state, guarded):
    """Bayes mixture of the model and everything inside, prior 1/2 each, in log-odds.

    log_p, log_inner (T,) float64 nats; state (2,) float64: log-odds of the model and what rounding
    took from that sum (Neumaier 1974); guarded (T,) float64 nats is written.
    """
    log_odds, lost = state
    for i in range(len(log_p)):
        model = log_odds + lost
        guarded[i] = log_mix(-softplus(-model), log_p[i], -softplus(model), log_inner[i])
        term = log_p[i] - log_inner[i]
        total = log_odds + term
        lost += (
            (log_odds - total) + term if abs(log_odds) >= abs(term) else (term - total) + log_odds
        )
        log_odds = total
    state[0] = log_odds
    state[1] = lost
