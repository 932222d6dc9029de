"""Published rules that mix a model with an n-gram cache, as baselines, on exact counts.

Each rule is a distribution over the vocabulary that is fixed before its token. It is compared at
its best: with exact counts instead of hashed ones, and at the best of its published settings,
chosen in hindsight on the scored text. If no context of at least one token has been seen, the
model's distribution is used unchanged. The rules come from scripts of the Parameter Golf contest,
cited by pull request.

The scripts use raw counts; here each rule uses the counts that suit it better. Measured on FineWeb
tokens with a model of 11.6 M parameters, cold and after a prefill of 2.8 M tokens, in BPB: raw
counts gain the Dirichlet posterior 0.0015 and 0.0041, and the fixed weight 0 and 0.0033 (both kinds
are among its settings); Kneser-Ney counts gain the tilt 0.0001 to 0.0005.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from eval.comparing.features import Features
from eval.comparing.names import RULE_NAMES
from eval.types import Floats, Tokens

Rule = Callable[[Features], Floats]
Settings = dict[str, Rule]  # by name of the setting: nats (N,) from features of N tokens

# The cache's distribution in a linear mixture: log-probabilities (N,), nats.
CACHES: dict[str, Callable[[Features], Floats]] = {
    "longest match": attrgetter("log_match"),
    "backoff": attrgetter("log_backoff"),
    "raw backoff": attrgetter("log_raw_backoff"),
}
WEIGHTS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)  # 0.4: #715, #763; 0.2: #769, #797
# (lowest weight, span, slope, centre in nats): #727, #702, #1185, #1094, #1605
ENTROPY_WEIGHTS = (
    (0.05, 0.55, 2.0, 4.0),
    (0.05, 0.35, 2.0, 4.0),
    (0.08, 0.65, 2.0, 3.5),
    (0.20, 0.55, 2.0, 3.0),
    (0.05, 0.55, 2.5, 1.0),
)
# #796, #900, #948: 5 flat, 3.8 at best; or of contexts of 1, 2, ... tokens, the last for all longer
CONCENTRATIONS = (1.0, 2.0, 3.8, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
CONCENTRATIONS_BY_CONTEXT = (50.0, 50.0, 6.95, 2.98, 2.05, 2.05, 2.05, 1.86)
BETAS = (0.5, 1.0, 1.5, 2.0, 2.625)  # #1145: 2.625; #1514: 1.5 to 2 times the confidence
THRESHOLDS, MIN_COUNTS = (0.5, 0.7, 0.8), (1, 2, 3)  # #1145, #1514
MIN_CONTEXTS = (1, 2, 3, 4)  # tokens; shorter contexts are ignored
HEDGE_THRESHOLDS = (0.5, 0.8)  # #2050


def mixed(features: Features, weight: float | Floats, cache: str) -> Floats:
    """Nats (N,) under (1 - w) p + w q; weight w in (0, 1), a number or (N,)."""
    log_q = CACHES[cache](features)
    log_mixed = np.logaddexp(np.log1p(-weight) + features.log_p, np.log(weight) + log_q)
    return -np.where(features.context > 0, log_mixed, features.log_p)


def by_entropy(
    features: Features, constants: tuple[float, float, float, float], cache: str
) -> Floats:
    """Nats (N,) under a linear mixture with w = lowest + span sigmoid(slope (H - centre))."""
    lowest, span, slope, centre = constants
    return mixed(
        features, lowest + span / (1 + np.exp(-slope * (features.entropy - centre))), cache
    )


def dirichlet(features: Features, concentrations: Sequence[float], min_context: int) -> Floats:
    """Nats (N,) under p_k(a) = (c_k(a) + s_k p_{k-1}(a)) / (n_k + s_k), with the model below.

    concentrations: s_k for contexts of k = 1, 2, ... tokens, the last one for all longer contexts.
    Contexts of fewer than `min_context` tokens are not used.
    """
    counts, followers = features.raw.target_count, features.raw.followers
    log_p = features.log_p.copy()
    for k in range(min_context, len(followers)):
        s = concentrations[min(k, len(concentrations)) - 1]
        seen = np.flatnonzero(followers[k])
        with np.errstate(divide="ignore"):  # log 0 = -inf: never seen after this context
            log_counts = np.log(counts[k, seen].astype(np.float64))
        log_sum = np.logaddexp(log_counts, math.log(s) + log_p[seen])
        log_p[seen] = log_sum - np.log(followers[k, seen] + s)
    return -log_p


class Trigger(NamedTuple):
    """Condition to use a hint: least share, least context length, least number of followers."""

    threshold: float
    min_context: int
    min_count: int

    def __str__(self) -> str:
        return f">={self.threshold:g}, k>={self.min_context}, n>={self.min_count}"

    def positions(self, features: Features) -> Tokens:
        """Indices of the positions at which the condition holds."""
        fires = features.confidence >= self.threshold
        fires &= features.context >= self.min_context
        fires &= features.followers >= self.min_count
        return np.flatnonzero(fires)


def tilt_gain(features: Features, positions: Tokens, beta: float | Floats) -> Floats:
    """Nats saved at each position by p'(a) = p(a) e**(beta [a = h]) / Z.

    Z = 1 + p(h) (e**beta - 1), which needs no sum over the vocabulary.
    """
    log_z = np.log1p(np.exp(features.log_hint[positions]) * np.expm1(beta))
    gain: Floats = beta * features.is_hint[positions] - log_z
    return gain


def one_hint(features: Features, trigger: Trigger, beta: float, by_confidence: bool) -> Floats:
    """Nats (N,) under the model tilted towards one hint by beta, or by beta times its share."""
    positions = trigger.positions(features)
    strength = beta * features.confidence[positions] if by_confidence else beta
    nats = -features.log_p
    nats[positions] -= tilt_gain(features, positions, strength)
    return nats


class Hedge:
    """Bayes mixture of tilts of several strengths, with a uniform prior.

    The weights are kept from call to call.
    """

    def __init__(self, trigger: Trigger, betas: Sequence[float]) -> None:
        self._trigger, self._betas = trigger, betas
        self._log_weights = np.full((len(betas), 1), -math.log(len(betas)))

    def __call__(self, features: Features) -> Floats:
        """Nats (N,): the log of the mixture's likelihood before the token over that after it."""
        positions = self._trigger.positions(features)
        gains = np.stack([tilt_gain(features, positions, beta) for beta in self._betas])
        log_shares = np.cumsum(np.hstack([self._log_weights, gains]), axis=1)
        log_mixture = np.logaddexp.reduce(log_shares, axis=0)
        self._log_weights = log_shares[:, -1:] - log_mixture[-1]
        nats = -features.log_p
        nats[positions] -= np.diff(log_mixture)
        return nats


def fixed_settings() -> Settings:
    """Settings of a linear mixture with a fixed weight."""
    return {
        f"w={weight:g}, {cache}": partial(mixed, weight=weight, cache=cache)
        for cache, weight in product(CACHES, WEIGHTS)
    }


def entropy_settings() -> Settings:
    """Settings of a linear mixture whose weight grows with the model's entropy."""
    return {
        "{:g}+{:g}sig({:g}(H-{:g})), ".format(*constants) + cache: partial(
            by_entropy, constants=constants, cache=cache
        )
        for cache, constants in product(CACHES, ENTROPY_WEIGHTS)
    }


def dirichlet_settings() -> Settings:
    """Settings of a hierarchy of Dirichlet posteriors with the model as prior."""
    lists: dict[str, Sequence[float]] = {f"s={s:g}": [s] for s in CONCENTRATIONS}
    lists["s={:g}, {:g}, {:g}, ...".format(*CONCENTRATIONS_BY_CONTEXT)] = CONCENTRATIONS_BY_CONTEXT
    return {
        f"{name}, k>={k}": partial(dirichlet, concentrations=concentrations, min_context=k)
        for (name, concentrations), k in product(lists.items(), MIN_CONTEXTS)
    }


def one_hint_settings() -> Settings:
    """Settings of a tilt towards the hint of the longest context."""
    triggers = [Trigger(*gate) for gate in product(THRESHOLDS, MIN_CONTEXTS, MIN_COUNTS)]
    return {
        f"beta={beta:g}{'c' if by_confidence else ''}, {trigger}": partial(
            one_hint, trigger=trigger, beta=beta, by_confidence=by_confidence
        )
        for by_confidence, beta, trigger in product((False, True), BETAS, triggers)
    }


def hedge_settings() -> Settings:
    """Settings of a Bayes mixture over all strengths of the tilt.

    Strength 0 is one of them, which bounds the loss at a fraction of a bit.
    """
    triggers = [Trigger(*gate) for gate in product(HEDGE_THRESHOLDS, MIN_CONTEXTS, MIN_COUNTS)]
    return {f"{trigger}": Hedge(trigger, (0.0, *BETAS)) for trigger in triggers}


SETTINGS = (fixed_settings, entropy_settings, dirichlet_settings, one_hint_settings, hedge_settings)
PUBLISHED_RULES: dict[str, Callable[[], Settings]] = dict(zip(RULE_NAMES, SETTINGS, strict=True))
