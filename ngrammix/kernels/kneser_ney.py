"""Kneser-Ney probability of each token from the evidence before it."""

import math

from ngrammix.kernels.jit import jit


@jit
def backoff(followers, n_distinct, target_count, discounts, vocab_size, log_q):
    """Interpolate from the uniform distribution up to the longest context that has followers.

    followers, n_distinct, target_count (order, T) uint32; discounts (order, T) float32. log_q (T,)
    float64, nats, is written: log of q_k(a) = (max(c_k(a) - d_k, 0) + d_k u_k q_{k-1}(a)) / n_k.
    """
    order, n_tokens = followers.shape
    for i in range(n_tokens):
        q = 1.0 / vocab_size
        for k in range(order):
            n = float(followers[k, i])
            if n == 0.0:  # no longer context has followers either
                break
            d = float(discounts[k, i])
            q = (max(target_count[k, i] - d, 0.0) + d * n_distinct[k, i] * q) / n
        log_q[i] = math.log(q)
