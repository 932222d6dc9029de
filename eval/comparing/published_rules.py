"""The published rules of mixing a model with an n-gram cache, on exact counts: the rules.

Each rule is a distribution over the vocabulary, fixed before its token came, so it is compared at
its honest best: on a cache that no hash deceives, at the best of its published settings, chosen
with hindsight on the very text that is scored. Where no context of at least one token is known, the
model stays unchanged. The rules are those of scripts of the Parameter Golf contest, given by their
pull requests.

The scripts count raw; here each rule has the counts that serve it better. On a real 11.6
M-parameter model's FineWeb tokens, cold and after a prefill of 2.8 M tokens, in BPB: raw ones gain
the Dirichlet posterior 0.0015 and 0.0041, the fixed weight 0 and 0.0033 (it has its choice);
Kneser-Ney's gain the tilt 0.0001 to 0.0005.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from eval.comparing.features import Features
from eval.types import Floats, Tokens

Rule = Callable[[Features], Floats]
Settings = dict[str, Rule]  # under the name of each setting: nats (N,) of features about N tokens

# What a linear rule mixes in: (N,) nats, log-probability under the cache.
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
    """Nats (N,) under (1 - w) p + w q, where w is one number or (N,), in (0, 1)."""
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

    concentrations: s_k of contexts of k = 1, 2, ... tokens, the last for all longer ones; contexts
    of fewer than `min_context` tokens leave the model as it is.
    """
    counts, followers = features.raw.target_count, features.raw.followers
    log_p = features.log_p.copy()
    for k in range(min_context, len(followers)):
        s = concentrations[min(k, len(concentrations)) - 1]
        known = np.flatnonzero(followers[k])
        with np.errstate(divide="ignore"):  # log 0 = -inf: never seen there
            log_counts = np.log(counts[k, known].astype(np.float64))
        log_sum = np.logaddexp(log_counts, math.log(s) + log_p[known])
        log_p[known] = log_sum - np.log(followers[k, known] + s)
    return -log_p


class Trigger(NamedTuple):
    """When a hint is believed: by its share, the context's tokens and the context's counts."""

    threshold: float
    min_context: int
    min_count: int

    def __str__(self) -> str:
        return f">={self.threshold:g}, k>={self.min_context}, n>={self.min_count}"

    def positions(self, features: Features) -> Tokens:
        """Indices of the positions where it fires."""
        fires = features.confidence >= self.threshold
        fires &= features.context >= self.min_context
        fires &= features.followers >= self.min_count
        return np.flatnonzero(fires)


def tilt_gain(features: Features, positions: Tokens, beta: float | Floats) -> Floats:
    """Nats that p'(a) = p(a) e**(beta [a = h]) / Z saves at each place.

    Z = 1 + p(h) (e**beta - 1), which needs no pass over the vocabulary.
    """
    log_z = np.log1p(np.exp(features.log_hint[positions]) * np.expm1(beta))
    gain: Floats = beta * features.is_hint[positions] - log_z
    return gain


def one_hint(features: Features, trigger: Trigger, beta: float, by_confidence: bool) -> Floats:
    """Nats (N,) under the model tilted towards one hint, by beta or by beta times its share."""
    positions = trigger.positions(features)
    strength = beta * features.confidence[positions] if by_confidence else beta
    nats = -features.log_p
    nats[positions] -= tilt_gain(features, positions, strength)
    return nats


class Hedge:
    """Bayes mixture of tilts of several strengths, uniform at the beginning of the stream.

    One call or many: the weights go on where the last call left them.
    """

    def __init__(self, trigger: Trigger, betas: Sequence[float]) -> None:
        self._trigger, self._betas = trigger, betas
        self._log_weights = np.full((len(betas), 1), -math.log(len(betas)))

    def __call__(self, features: Features) -> Floats:
        """Nats (N,), each the log of the mixture's product before the token over that after it."""
        positions = self._trigger.positions(features)
        gains = np.stack([tilt_gain(features, positions, beta) for beta in self._betas])
        log_shares = np.cumsum(np.hstack([self._log_weights, gains]), axis=1)
        log_mixture = np.logaddexp.reduce(log_shares, axis=0)
        self._log_weights = log_shares[:, -1:] - log_mixture[-1]
        nats = -features.log_p
        nats[positions] -= np.diff(log_mixture)
        return nats


def fixed_settings() -> Settings:
    """One weight for the whole stream."""
    return {
        f"w={weight:g}, {cache}": partial(mixed, weight=weight, cache=cache)
        for cache, weight in product(CACHES, WEIGHTS)
    }


def entropy_settings() -> Settings:
    """A weight that grows with the model's entropy."""
    return {
        "{:g}+{:g}sig({:g}(H-{:g})), ".format(*constants) + cache: partial(
            by_entropy, constants=constants, cache=cache
        )
        for cache, constants in product(CACHES, ENTROPY_WEIGHTS)
    }


def dirichlet_settings() -> Settings:
    """The model as prior of a hierarchy of Dirichlet posteriors."""
    lists: dict[str, Sequence[float]] = {f"s={s:g}": [s] for s in CONCENTRATIONS}
    lists["s={:g}, {:g}, {:g}, ...".format(*CONCENTRATIONS_BY_CONTEXT)] = CONCENTRATIONS_BY_CONTEXT
    return {
        f"{name}, k>={k}": partial(dirichlet, concentrations=concentrations, min_context=k)
        for (name, concentrations), k in product(lists.items(), MIN_CONTEXTS)
    }


def one_hint_settings() -> Settings:
    """A tilt towards the hint of the longest context."""
    triggers = [Trigger(*gate) for gate in product(THRESHOLDS, MIN_CONTEXTS, MIN_COUNTS)]
    return {
        f"beta={beta:g}{'c' if by_confidence else ''}, {trigger}": partial(
            one_hint, trigger=trigger, beta=beta, by_confidence=by_confidence
        )
        for by_confidence, beta, trigger in product((False, True), BETAS, triggers)
    }


def hedge_settings() -> Settings:
    """No one strength of the tilt, but all of them, weighted by what they saved so far.

    A strength of 0 is among them: it costs a fraction of a bit and bounds the loss.
    """
    triggers = [Trigger(*gate) for gate in product(HEDGE_THRESHOLDS, MIN_CONTEXTS, MIN_COUNTS)]
    return {f"{trigger}": Hedge(trigger, (0.0, *BETAS)) for trigger in triggers}


PUBLISHED_RULES: dict[str, Callable[[], Settings]] = {
    "fixed": fixed_settings,
    "entropy": entropy_settings,
    "dirichlet": dirichlet_settings,
    "one-hint": one_hint_settings,
    "hedge": hedge_settings,
}
