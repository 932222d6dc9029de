"""The guard's pass: a mixture of two experts, kept as log-odds, since linear weights underflow."""

import math

from ngrammix.kernels.jit import jit

_NEGLIGIBLE = 40.0  # nats: e**-40 is below a tenth of the float64 epsilon


@jit
def softplus(x):
    """log(1 + e**x), without overflow."""
    return max(x, 0.0) + (math.log1p(math.exp(-abs(x))) if abs(x) < _NEGLIGIBLE else 0.0)


@jit
def log_mix(log_weight_a, log_a, log_weight_b, log_b):
    """log(weight_a a + weight_b b); exactly log_a where log_a == log_b."""
    if log_a == log_b:
        return log_a
    a = log_weight_a + log_a
    b = log_weight_b + log_b
    return max(a, b) + softplus(-abs(a - b))


@jit
def add(total, term):
    """Add term to total (2,), the sum and its rounding error (Neumaier 1974)."""
    new = total[0] + term
    if abs(total[0]) >= abs(term):
        total[1] += (total[0] - new) + term
    else:
        total[1] += (term - new) + total[0]
    total[0] = new


@jit
def add_regret(log_p, log_inner, regret):
    """Add log_p - log_inner, both (T,) nats, to regret (2,), the sum and its rounding error."""
    for i in range(len(log_p)):
        add(regret, log_p[i] - log_inner[i])


@jit
def mix(log_p, log_inner, log_odds, log_mixed):
    """Bayes mixture of the model and the inner experts, prior 1/2 each.

    log_p, log_inner (T,) float64 nats; log_odds (2,) float64 of the model, the sum and its rounding
    error, updated; log_mixed (T,) float64 nats is written.
    """
    for i in range(len(log_p)):
        x = log_odds[0] + log_odds[1]
        log_mixed[i] = log_mix(-softplus(-x), log_p[i], -softplus(x), log_inner[i])
        add(log_odds, log_p[i] - log_inner[i])


@jit
def mix_switching(log_p, log_inner, log_odds, regret, n_before, log_mixed):
    """As `mix`, with a fixed share: after token t, 1 / (t + 1) of the weights returns to 1/2 each.

    log_odds (1,) float64 of the model, updated; regret (2,) float64 nats: cost beyond the model's,
    the sum and its rounding error, updated; n_before: number of tokens mixed before these.
    """
    for i in range(len(log_p)):
        x = log_odds[0]
        log_mixed[i] = log_mix(-softplus(-x), log_p[i], -softplus(x), log_inner[i])
        add(regret, log_p[i] - log_mixed[i])
        posterior = x + log_p[i] - log_inner[i]
        share = 1.0 / (n_before + i + 2.0)
        small = math.exp(-abs(posterior))
        large = 1.0 / (1.0 + small)
        log_odds[0] = math.log((1.0 - share) * large + share / 2.0)
        log_odds[0] -= math.log((1.0 - share) * small * large + share / 2.0)
        if posterior < 0.0:
            log_odds[0] = -log_odds[0]
