"""The guard's pass: two experts, kept as a log-odds, because weights in linear space underflow."""

import math

from ngrammix.kernels.jit import jit

_NEGLIGIBLE = 40.0  # nats: e**-40 is less than a tenth of the last digit of 1


@jit
def softplus(x):
    """log(1 + e**x), without overflow."""
    return max(x, 0.0) + (math.log1p(math.exp(-abs(x))) if abs(x) < _NEGLIGIBLE else 0.0)


@jit
def log_mix(log_weight_a, log_a, log_weight_b, log_b):
    """Log of the mixture of e**log_a and e**log_b; exactly log_a where the two are equal."""
    if log_a == log_b:
        return log_a
    a = log_weight_a + log_a
    b = log_weight_b + log_b
    return max(a, b) + softplus(-abs(a - b))


@jit
def add(total, term):
    """Add to (sum, what rounding took from it): Neumaier 1974."""
    new = total[0] + term
    if abs(total[0]) >= abs(term):
        total[1] += (total[0] - new) + term
    else:
        total[1] += (term - new) + total[0]
    total[0] = new


@jit
def add_regret(log_p, log_inner, regret):
    """Add what log_inner costs beyond log_p, both (T,) nats, to regret (2,), one by one."""
    for i in range(len(log_p)):
        add(regret, log_p[i] - log_inner[i])


@jit
def static(log_p, log_inner, odds, guarded):
    """Bayes mixture of the model and everything inside, prior 1/2 each.

    log_p, log_inner (T,) float64 nats; odds (2,) float64: log-odds of the model, and what rounding
    took from that sum; guarded (T,) float64 nats is written.
    """
    for i in range(len(log_p)):
        model = odds[0] + odds[1]
        guarded[i] = log_mix(-softplus(-model), log_p[i], -softplus(model), log_inner[i])
        add(odds, log_p[i] - log_inner[i])


@jit
def switching(log_p, log_inner, odds, regret, n_before, guarded):
    """The same with a share: after token t each expert gives 1 / (t + 1) of its weight to both.

    odds (1,) float64: log-odds of the model; regret (2,) float64 nats: spent beyond the model, and
    what rounding took from that sum; n_before: tokens mixed before these.
    """
    for i in range(len(log_p)):
        guarded[i] = log_mix(-softplus(-odds[0]), log_p[i], -softplus(odds[0]), log_inner[i])
        add(regret, log_p[i] - guarded[i])
        posterior = odds[0] + log_p[i] - log_inner[i]
        share = 1.0 / (n_before + i + 2.0)
        small = math.exp(-abs(posterior))
        large = 1.0 / (1.0 + small)
        odds[0] = math.log((1.0 - share) * large + share / 2.0)
        odds[0] -= math.log((1.0 - share) * small * large + share / 2.0)
        if posterior < 0.0:
            odds[0] = -odds[0]
