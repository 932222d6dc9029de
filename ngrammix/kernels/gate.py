"""The gate's pass: mix two distributions linearly, with weights learned after each token."""

import math

import numpy as np

from ngrammix.kernels.evidence import FOLLOWERS, HINT_COUNT
from ngrammix.kernels.jit import jit

CONFIDENCE_BINS, ENTROPY_BINS = 5, 4  # the last entropy bin: the entropy is unknown
CELLS_PER_CONTEXT = CONFIDENCE_BINS * ENTROPY_BINS * 2  # twice: is the trend above the threshold?
NO_CELL = -1

WINDOW = 300.0  # trials of a cell after which its sums are halved
MIN_TRIALS = 1e-6  # trials won and lost that halving leaves: a weight never reaches 0 or 1
TREND_RATE, TREND_STEP = 0.02, 3.0  # of the running mean of log q / p; the step is in nats
TREND_THRESHOLD = 0.01  # nats: above it, the cache has recently predicted better than the model


@jit
def find_cells(entries, starts, depth, entropy, cells):
    """Write the gate's cell of each position.

    entries, starts, depth: as in kernels/evidence.py; entropy (T,) float64 nats of the model, NaN
    where it is unknown; cells (T,) int64 is written: NO_CELL where no context of a token or more
    was seen, else the index of (length of the longest context, confidence, entropy in steps of 2
    nats), with the trend below the threshold. Confidence is the hint's count over the number of
    followers plus one, so that one occurrence is not certainty.
    """
    cursors = starts[:-1].copy()
    for i in range(len(depth)):
        longest, followers, hint_count = 0, 0, 0
        for k in range(depth[i] + 1):
            entry = entries[cursors[k]]
            cursors[k] += 1
            if entry[FOLLOWERS] > 0:
                longest = k
                followers, hint_count = np.int64(entry[FOLLOWERS]), np.int64(entry[HINT_COUNT])
        if longest == 0:
            cells[i] = NO_CELL
            continue
        confidence = CONFIDENCE_BINS * hint_count // (followers + 1)
        entropy_bin = ENTROPY_BINS - 1
        if entropy[i] >= 0.0:
            entropy_bin = min(np.int64(entropy[i] / 2.0), ENTROPY_BINS - 2)
        cells[i] = 2 * ((longest * CONFIDENCE_BINS + confidence) * ENTROPY_BINS + entropy_bin)


@jit
def mix(log_p, log_q, cells, weights, trend, log_mixed):
    """Mix with the cell's weight w = posterior_sum / n_trials, then update the weight.

    log_p, log_q (T,) float64 nats; cells (T,) int64; weights (C, 2) float64: posterior_sum and
    n_trials, updated; trend (1,) float64 nats, updated: running mean of log q / p, which chooses
    between the two weights of a cell; log_mixed (T,) float64 nats is written: log((1 - w) p + w q),
    or log_p where there is no cell. posterior_sum grows by w q / ((1 - w) p + w q), the posterior
    probability that the cache generated the token: online EM for the weight of a mixture.
    """
    for i in range(len(log_p)):
        cell = cells[i]
        if cell == NO_CELL:
            log_mixed[i] = log_p[i]
            continue
        cell += trend[0] > TREND_THRESHOLD
        w = weights[cell, 0] / weights[cell, 1]
        p, q = math.exp(log_p[i]), math.exp(log_q[i])  # q >= 1e-100
        mixture = (1.0 - w) * p + w * q
        log_mixed[i] = math.log(mixture)
        weights[cell, 0] += w * q / mixture
        weights[cell, 1] += 1.0
        if weights[cell, 1] > WINDOW:
            weights[cell, 0] = 0.5 * weights[cell, 0] + MIN_TRIALS
            weights[cell, 1] = 0.5 * weights[cell, 1] + 2.0 * MIN_TRIALS
        surprise = min(max(log_q[i] - log_p[i], -TREND_STEP), TREND_STEP)
        trend[0] += TREND_RATE * (surprise - trend[0])
