"""Kneser-Ney probability of each token from the evidence before it."""

import math

from ngrammix.kernels.evidence import DISTINCT, FOLLOWERS, ONCE, TARGET_COUNT, TWICE, discount
from ngrammix.kernels.jit import jit


@jit
def backoff(entries, starts, depth, fixed_discount, vocab_size, log_q):
    """Interpolate from the uniform distribution up to the longest context that has followers.

    entries, starts, depth: as in kernels/evidence.py. fixed_discount: of all orders; 0 for the
    evidence's own. log_q (T,) float64, nats, is written: log of
    q_k(a) = (max(c_k(a) - d_k, 0) + d_k u_k q_{k-1}(a)) / n_k.
    """
    cursors = starts[:-1].copy()
    for i in range(len(depth)):
        q = 1.0 / vocab_size
        for k in range(depth[i] + 1):
            entry = entries[cursors[k]]
            cursors[k] += 1
            n = float(entry[FOLLOWERS])
            if n > 0.0:  # if not, no longer context has followers either
                d = fixed_discount
                if d == 0.0:
                    d = float(discount(entry[ONCE], entry[TWICE]))
                q = (max(entry[TARGET_COUNT] - d, 0.0) + d * entry[DISTINCT] * q) / n
        log_q[i] = math.log(q)
