"""Rows of logits: log-probabilities of targets and hints, entropy, and most probable token."""

import math

import numpy as np

from ngrammix.kernels.jit import jit

_LOG2_E = 1 / math.log(2)
_LN_2 = math.log(2)
_SMALLEST = -708.0  # e**-708 is about the smallest normal float64; smaller weights are taken as 0
_TAYLOR = tuple(1 / math.factorial(n) for n in range(13, -1, -1))


@jit(fastmath={"reassoc", "contract"})  # sums can be vectorized; NaN and inf keep their meaning
def read(logits, targets, log_p, entropy, largest, log_total, top):
    """Read each row twice, without a temporary array of its size.

    logits (N, V) float32 or float64; targets (N,) int64. Written: log_p, entropy (N,) float64 nats;
    largest (N,) float64, the largest logit, NaN if one is NaN; log_total (N,) float64 nats, the
    log-sum-exp minus `largest`; top (N,) int64, the first token with the largest logit.
    """
    n_rows, vocab_size = logits.shape
    for i in range(n_rows):
        row = logits[i]
        peak = -np.inf
        n_nan = 0
        for a in range(vocab_size):
            z = row[a]
            peak = max(peak, np.float64(z))
            n_nan += z != z
        largest[i] = peak if n_nan == 0 else np.nan
        if n_nan > 0 or math.isinf(peak):
            log_p[i] = -np.inf
            entropy[i] = 0.0
            log_total[i] = 0.0
            top[i] = 0
            continue
        total = 0.0
        weighted = 0.0  # sum of weight times logit, from which the entropy follows
        after = 0  # number of tokens from the first peak to the end
        for a in range(vocab_size):
            x = np.float64(row[a]) - peak
            after = max(after, (vocab_size - a) * (x == 0.0))
            is_counted = x > _SMALLEST
            x = x if is_counted else _SMALLEST
            # e**x = 2**k e**r with |r| <= ln(2) / 2: with math.exp the loop is not vectorized.
            # The remainder of the Taylor series is below 1e-17; the rounding error of ln 2, times
            # k, is below 1e-15 wherever the weight is not negligible.
            k = math.floor(x * _LOG2_E + 0.5)
            r = x - k * _LN_2
            power = 0.0
            for coefficient in _TAYLOR:
                power = power * r + coefficient
            weight = power * np.int64((np.int64(k) + 1023) << 52).view(np.float64)
            weight = weight if is_counted else 0.0
            total += weight
            weighted += weight * x
        log_total[i] = math.log(total)
        log_p[i] = np.float64(row[targets[i]]) - peak - log_total[i]
        entropy[i] = log_total[i] - weighted / total
        top[i] = vocab_size - after


@jit
def look_up(logits, tokens, largest, log_total, log_p):
    """Log-probabilities of more tokens of rows that `read` has read.

    logits (N, V) float32 or float64; tokens (N, M) int64, -1 for none; largest, log_total (N,)
    float64, from `read`; log_p (N, M) float64 nats is written: -inf where there is no token.
    """
    for i in range(len(tokens)):
        for j in range(tokens.shape[1]):
            token = tokens[i, j]
            log_p[i, j] = -np.inf
            if token >= 0:
                log_p[i, j] = np.float64(logits[i, token]) - largest[i] - log_total[i]
