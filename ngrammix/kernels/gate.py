"""The gate: two distributions mixed linearly with weights that are learned after each score."""

import math

import numpy as np

from ngrammix.kernels.jit import jit

CONFIDENCE_BINS, ENTROPY_BINS = 5, 4  # the last entropy bin: the entropy is not known
CELLS_PER_CONTEXT = CONFIDENCE_BINS * ENTROPY_BINS * 2  # twice: was the cache lately ahead?
NO_CELL = -1

WINDOW = 300.0  # trials after which a cell begins to forget
LEAST = 1e-6  # trials won and lost that are never forgotten: no weight is lost for ever
TREND_RATE, TREND_STEP = 0.02, 3.0  # of the running mean of log q / p, in nats
AHEAD = 0.01  # nats: a cache with a larger mean is ahead


@jit
def gate_cells(followers, hint_count, entropy, cells):
    """Address of the gate's weight at each position: what the strict prefix and the model say.

    followers, hint_count (order, T) uint32; entropy (T,) float64 nats, NaN where it is not known;
    cells (T,) int64 is written: NO_CELL where no context of a token or more is known, else that of
    (tokens of the longest known, confidence in its hint, the model's entropy in steps of 2 nats).
    Confidence is the hint's count over one more than the followers, so that a single sight is not
    certainty.
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
        uncertainty = ENTROPY_BINS - 1
        if entropy[i] >= 0.0:
            uncertainty = min(np.int64(entropy[i] / 2.0), ENTROPY_BINS - 2)
        cells[i] = 2 * ((k * CONFIDENCE_BINS + confidence) * ENTROPY_BINS + uncertainty)


@jit
def gate(log_p, log_q, cells, weights, trend, mixed):
    """Mix linearly with the weight w = won / tried of the cell, then learn it.

    log_p, log_q (T,) float64 nats; cells (T,) int64; weights (C, 2) float64: won and tried; trend
    (1,) float64 nats: running mean of log q / p, which chooses between the two weights of a cell;
    mixed (T,) float64 nats is written: log((1 - w) p + w q), log_p itself where there is no cell.
    Then won += w q / mixture, the posterior that the cache wrote the token: the online EM step for
    a mixture's weight.
    """
    for i in range(len(log_p)):
        cell = cells[i]
        if cell == NO_CELL:
            mixed[i] = log_p[i]
            continue
        cell += trend[0] > AHEAD
        w = weights[cell, 0] / weights[cell, 1]
        p, q = math.exp(log_p[i]), math.exp(log_q[i])  # q is no smaller than 1e-100
        mixture = (1.0 - w) * p + w * q
        mixed[i] = math.log(mixture)
        weights[cell, 0] += w * q / mixture
        weights[cell, 1] += 1.0
        if weights[cell, 1] > WINDOW:
            weights[cell, 0] = 0.5 * weights[cell, 0] + LEAST
            weights[cell, 1] = 0.5 * weights[cell, 1] + 2.0 * LEAST
        surprise = min(max(log_q[i] - log_p[i], -TREND_STEP), TREND_STEP)
        trend[0] += TREND_RATE * (surprise - trend[0])
