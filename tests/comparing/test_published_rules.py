"""The published rules: normalised, causal, and equal to their formulas written out as loops."""

import math
from functools import partial

import numpy as np
import pytest

from eval.comparing.features import RawAndKnCounts, longest_hint, make_features
from eval.comparing.published_rules import (
    BETAS,
    CONCENTRATIONS_BY_CONTEXT,
    ENTROPY_WEIGHTS,
    PUBLISHED_RULES,
    Hedge,
    Trigger,
    by_entropy,
    dirichlet,
    mixed,
    one_hint,
)

ORDER, V, T = 6, 5, 48


@pytest.fixture(scope="module")
def stream():
    """Logits (T, V) and tokens that repeat themselves, but not always."""
    rng = np.random.default_rng(1)
    tokens = np.tile([0, 1, 2, 3, 0, 2], T // 6)
    is_noise = rng.random(T) < 0.1
    tokens[is_noise] = rng.integers(0, V, is_noise.sum())
    return rng.normal(scale=2, size=(T, V)), tokens


def features_of(logits, tokens):
    return make_features(
        RawAndKnCounts(ORDER, vocab_size=V), logits, tokens, np.arange(len(tokens))
    )


@pytest.fixture(scope="module")
def features(stream):
    return features_of(*stream)


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rule_name", PUBLISHED_RULES)
def test_every_rule_sums_to_one_over_what_might_have_come(stream, rule_name):
    logits, tokens = stream
    names = list(PUBLISHED_RULES[rule_name]())
    for t in range(0, T, 4):
        total = np.zeros(len(names))
        for a in range(V):
            alternative = features_of(logits[: t + 1], np.append(tokens[:t], a))
            total += [
                math.exp(-rule(alternative)[t]) for rule in PUBLISHED_RULES[rule_name]().values()
            ]
        np.testing.assert_allclose(total, 1, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule_name", PUBLISHED_RULES)
def test_pieces_cost_what_the_whole_costs_and_the_future_changes_nothing(
    stream, features, rule_name
):
    logits, tokens = stream
    counts = RawAndKnCounts(ORDER, vocab_size=V)
    pieces = [
        make_features(counts, logits[piece], tokens[piece], np.arange(T)[piece])
        for piece in (slice(0, 7), slice(7, 8), slice(8, T))
    ]
    in_pieces = PUBLISHED_RULES[rule_name]()
    for name, rule in PUBLISHED_RULES[rule_name]().items():
        nats = np.concatenate([in_pieces[name](piece) for piece in pieces])
        np.testing.assert_allclose(nats, rule(features), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule_name", PUBLISHED_RULES)
def test_without_a_context_the_model_stays_as_it_is(features, rule_name):
    unknown = features.context == 0
    assert 1 < unknown.sum() < T / 2
    for rule in PUBLISHED_RULES[rule_name]().values():
        np.testing.assert_array_equal(rule(features)[unknown], -features.log_p[unknown])


@pytest.mark.parametrize("rule_name", PUBLISHED_RULES)
def test_what_the_model_is_sure_of_costs_no_warning(rule_name):
    logits = np.full((12, V), -np.inf)
    tokens = np.tile([0, 1, 2], 4)
    logits[np.arange(12), tokens] = 0.0
    for rule in PUBLISHED_RULES[rule_name]().values():
        assert np.isfinite(rule(features_of(logits, tokens))).all()


def test_mixing_with_the_longest_match(features):
    evidence, nats = features.evidence, mixed(features, 0.2, "longest match")
    for t in np.flatnonzero(features.context):
        k = features.context[t]
        q = evidence.target_count[k, t] / evidence.followers[k, t]
        p = 0.8 * math.exp(features.log_p[t]) + 0.2 * q
        assert nats[t] == pytest.approx(-math.log(p), rel=1e-12)


@pytest.mark.parametrize(("cache", "seen"), [("backoff", "evidence"), ("raw backoff", "raw")])
def test_mixing_with_the_backoff_by_entropy(stream, features, cache, seen):
    evidence, p = getattr(features, seen), softmax(stream[0])
    low, span, slope, centre = constants = ENTROPY_WEIGHTS[0]
    nats = by_entropy(features, constants, cache)
    for t in np.flatnonzero(features.context):
        q = 1 / V
        for n, u, c, d in zip(
            evidence.followers[:, t].tolist(), evidence.n_distinct[:, t].tolist(),
            evidence.target_count[:, t].tolist(), evidence.discounts[:, t].tolist(), strict=True,
        ):  # fmt: skip
            q = q if n == 0 else (max(c - d, 0) + d * u * q) / n
        entropy = -(p[t] * np.log(p[t])).sum()
        w = low + span / (1 + math.exp(-slope * (entropy - centre)))
        expected = (1 - w) * math.exp(features.log_p[t]) + w * q
        assert nats[t] == pytest.approx(-math.log(expected), rel=1e-12)


@pytest.mark.parametrize("min_context", [1, 3])
@pytest.mark.parametrize("concentrations", [[5.0], CONCENTRATIONS_BY_CONTEXT[:3]])
def test_the_dirichlet_recursion(features, concentrations, min_context):
    nats = dirichlet(features, concentrations, min_context)
    for t in range(T):
        p = math.exp(features.log_p[t])
        for k in range(min_context, ORDER):
            s = concentrations[min(k, len(concentrations)) - 1]
            c, n = int(features.raw.target_count[k, t]), int(features.raw.followers[k, t])
            p = (c + s * p) / (n + s)
        assert nats[t] == pytest.approx(-math.log(p), rel=1e-12)


def tilted_by_hand(features, logits, trigger, strength):
    """(T, V) probabilities after the tilt; strength is a function of the hint's share."""
    p = softmax(logits)
    for t, hint in enumerate(longest_hint(features.evidence)):
        k = features.context[t]
        n, c = int(features.evidence.followers[k, t]), int(features.evidence.hint_count[k, t])
        is_believed = k >= trigger.min_context and n >= trigger.min_count
        if is_believed and c / n >= trigger.threshold:
            p[t, hint] *= math.exp(strength(c / n))
            p[t] /= p[t].sum()
    return p


@pytest.mark.parametrize("by_confidence", [False, True])
@pytest.mark.parametrize("trigger", [Trigger(0.5, 1, 1), Trigger(0.7, 2, 2)])
def test_the_tilt_towards_one_hint(stream, features, trigger, by_confidence):
    logits, tokens = stream
    p = tilted_by_hand(features, logits, trigger, lambda c: 1.5 * c if by_confidence else 1.5)
    assert (p != softmax(logits)).any()
    nats = one_hint(features, trigger, 1.5, by_confidence)
    np.testing.assert_allclose(nats, -np.log(p[np.arange(T), tokens]), rtol=1e-12)


def test_the_hedge_is_the_bayes_mixture(stream, features):
    logits, tokens = stream
    trigger, betas = Trigger(0.5, 1, 1), (0.0, *BETAS)
    tilted = [tilted_by_hand(features, logits, trigger, lambda _, b=b: b) for b in betas]
    weights = np.full(len(betas), 1 / len(betas))
    nats = Hedge(trigger, betas)(features)
    for t, token in enumerate(tokens):
        likelihoods = np.array([p[t, token] for p in tilted])
        assert nats[t] == pytest.approx(-math.log(weights @ likelihoods), rel=1e-12)
        weights *= likelihoods
        weights /= weights.sum()
    best = min(one_hint(features, trigger, beta, by_confidence=False).sum() for beta in betas)
    assert nats.sum() <= best + math.log(len(betas))


def test_the_hedge_keeps_its_weights_when_a_strength_has_no_chance_left():
    logits = np.zeros((40_000, 2))
    tokens = np.zeros(40_000, np.int64)
    trigger, tilt = Trigger(0.5, 1, 1), partial(one_hint, by_confidence=False)
    counts = RawAndKnCounts(2, vocab_size=2)
    hedge = Hedge(trigger, BETAS)
    for start in (0, 20_000):
        block = slice(start, start + 20_000)
        features = make_features(counts, logits[block], tokens[block], np.arange(20_000))
        nats = hedge(features)
    np.testing.assert_allclose(nats, tilt(features, trigger, BETAS[-1]), rtol=1e-9)
