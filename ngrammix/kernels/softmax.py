"""From rows of logits the log-probability of target and hints, the entropy, the largest logit."""

import math

import numpy as np

from ngrammix.kernels.jit import jit

_LOG2_E = 1 / math.log(2)
_LN_2 = math.log(2)
_SMALLEST = -708.0  # e**-708 is about the smallest normal float64; below it a weight counts as 0
_TAYLOR = tuple(1 / math.factorial(n) for n in range(13, -1, -1))


@jit(fastmath={"reassoc", "contract"})  # sums may be vectorised; NaN and inf keep their meaning
def gather(logits, targets, hints, log_p, entropy, largest, log_hints):
    """Read each row twice; no array of its size is made.

    logits (N, V) float32 or float64; targets (N,) int64; hints (N, M) int64, -1 where there is
    none; log_p, entropy (N,) and log_hints (N, M) float64 nats, largest (N,) float64 are written;
    largest is NaN where a row holds one.
    """
    n_rows, vocab_size = logits.shape
    for i in range(n_rows):
        row = logits[i]
        top = -np.inf
        n_nan = 0
        for a in range(vocab_size):
            z = row[a]
            top = max(top, np.float64(z))
            n_nan += z != z
        largest[i] = top if n_nan == 0 else np.nan
        if n_nan > 0 or math.isinf(top):
            log_p[i] = -np.inf
            entropy[i] = 0.0
            log_hints[i, :] = -np.inf
            continue
        total = 0.0
        weighted = 0.0  # sum of weight times logit, from which the entropy follows
        for a in range(vocab_size):
            x = np.float64(row[a]) - top
            is_counted = x > _SMALLEST
            x = x if is_counted else _SMALLEST
            # e**x = 2**k e**r with |r| <= ln(2) / 2: math.exp would keep the loop from being
            # vectorised. Taylor's remainder is below 1e-17; ln 2's rounding, times k, below 1e-15
            # wherever the weight itself is not negligible.
            k = math.floor(x * _LOG2_E + 0.5)
            r = x - k * _LN_2
            power = 0.0
            for coefficient in _TAYLOR:
                power = power * r + coefficient
            weight = power * np.int64((np.int64(k) + 1023) << 52).view(np.float64)
            weight = weight if is_counted else 0.0
            total += weight
            weighted += weight * x
        log_total = math.log(total)
        log_p[i] = np.float64(row[targets[i]]) - top - log_total
        entropy[i] = log_total - weighted / total
        for j in range(hints.shape[1]):
            hint = hints[i, j]
            log_hints[i, j] = -np.inf if hint < 0 else np.float64(row[hint]) - top - log_total
