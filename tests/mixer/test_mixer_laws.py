"""Laws of the mixer: legal distributions, score before learn, never much worse than the model."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config

from ngrammix import Mixer, mixer
from ngrammix.cache import pipeline
from ngrammix.experts.choices import CHOICES
from ngrammix.experts.guard import Guard, SwitchingGuard, Unguarded
from ngrammix.reference import ReferenceMixer

pytestmark = pytest.mark.kernels

VOCAB_SIZE = 90  # uniform logits have an entropy of 4.5 nats: every cell of the gate is reached


@pytest.fixture(params=[3, 1 << 16], ids=["blocks of 3", "one block"], autouse=True, scope="module")
def block(request):
    """Walk and mix few tokens at a time too: every edge of a chunk or block is crossed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CHUNK_SIZE", min(request.param, pipeline.CHUNK_SIZE))
        patch.setattr(mixer, "BLOCK", request.param)
        yield


@st.composite
def streams(draw):
    """(order, logits (T, V), tokens (T,)): a model from clueless to sure, some tokens masked.

    Few tokens come, so that contexts come back; what is sure of changes from row to row.
    """
    order = draw(st.integers(1, 6))
    tokens = np.array(draw(st.lists(st.integers(0, 3), min_size=1, max_size=50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sureness = draw(st.sampled_from([[0.0], [1.0, 2.5], [30.0], [0.0, 1.0, 2.5, 5.0, 30.0]]))
    scales = rng.choice(sureness, size=(len(tokens), 1))
    logits = rng.normal(size=(len(tokens), VOCAB_SIZE)) * scales
    if draw(st.booleans()):
        masked = rng.random(logits.shape) < 0.3
        masked[np.arange(len(tokens)), tokens] = False
        logits[masked] = -np.inf
    return order, logits, tokens


@given(streams(), st.sampled_from(CHOICES))
def test_score_equals_the_reference(stream, experts):
    order, logits, tokens = stream
    fast = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts)
    slow = ReferenceMixer(VOCAB_SIZE, order, experts)
    nats = fast.score(logits, tokens)
    expected = [slow.score(row.tolist(), int(t)) for row, t in zip(logits, tokens, strict=True)]
    np.testing.assert_allclose(nats, expected, rtol=1e-12, atol=1e-12)
    assert fast.regret_bits == pytest.approx(slow.regret_bits, rel=1e-9, abs=1e-9)


@given(streams(), st.sampled_from(CHOICES))
def test_the_distribution_sums_to_one_and_is_what_is_scored(stream, experts):
    order, logits, tokens = stream
    fast = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts)
    slow = ReferenceMixer(VOCAB_SIZE, order, experts)
    for row, token in zip(logits, tokens, strict=True):
        p = fast.probs(row)
        assert abs(p.sum() - 1) < 1e-9
        np.testing.assert_allclose(p, slow.mixtures(row.tolist())[-1], rtol=1e-9, atol=1e-300)
        nats = fast.score(row[None], token[None])
        assert nats[0] == pytest.approx(-math.log(p[token]), rel=1e-9, abs=1e-9)
        slow.score(row.tolist(), int(token))


@given(streams(), st.data())
def test_the_target_never_changes_its_own_distribution(stream, data):
    order, logits, tokens = stream
    t = data.draw(st.integers(0, len(tokens) - 1))
    logits = np.where(np.isneginf(logits), -9.0, logits)
    other = tokens.copy()
    other[t:] = (tokens[t:] + data.draw(st.integers(1, VOCAB_SIZE - 1))) % VOCAB_SIZE
    a, b = Mixer(vocab_size=VOCAB_SIZE, order=order), Mixer(vocab_size=VOCAB_SIZE, order=order)
    nats_a, nats_b = a.score(logits, tokens), b.score(logits, other)
    np.testing.assert_array_equal(nats_a[:t], nats_b[:t])
    # The costs of x_t and of its substitute are those of one distribution, fixed by the prefix.
    prefix = Mixer(vocab_size=VOCAB_SIZE, order=order)
    if t > 0:
        prefix.score(logits[:t], tokens[:t])
    p = prefix.probs(logits[t])
    assert math.exp(-nats_a[t]) == pytest.approx(p[tokens[t]], rel=1e-9)
    assert math.exp(-nats_b[t]) == pytest.approx(p[other[t]], rel=1e-9)


@given(streams(), st.sampled_from(CHOICES), st.data())
def test_pieces_cost_what_the_whole_costs(stream, experts, data):
    order, logits, tokens = stream
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {0, len(tokens)})
    whole = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts)
    pieces = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts)
    nats = whole.score(logits, tokens)
    parts = [pieces.score(logits[a:b], tokens[a:b]) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), nats)
    assert pieces.regret_bits == whole.regret_bits


@given(streams(), st.data())
def test_ignored_positions_are_as_if_absent(stream, data):
    order, logits, tokens = stream
    is_scored = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens)))
    )
    ignored = data.draw(st.sampled_from([-100, -1, 50]))  # one of them is a token that never comes
    targets = np.where(is_scored, tokens, ignored)
    mixed = Mixer(vocab_size=VOCAB_SIZE, order=order)
    with_holes = (
        mixed.score(logits, targets)
        if ignored == -100
        else mixed.score(logits, targets, ignore_index=ignored)
    )
    assert (with_holes[~is_scored] == 0).all()
    trace = Mixer(vocab_size=VOCAB_SIZE, order=order).trace(
        logits[None], targets[None], ignore_index=ignored
    )
    assert (
        trace.nats.shape
        == trace.nats_model.shape
        == trace.matched_order.shape
        == (1, len(is_scored))
    )
    np.testing.assert_array_equal(trace.nats[0], with_holes)
    assert not trace.nats_model[0, ~is_scored].any()
    assert not trace.matched_order[0, ~is_scored].any()
    if is_scored.any():
        dense = Mixer(vocab_size=VOCAB_SIZE, order=order).score(
            logits[is_scored], tokens[is_scored]
        )
        np.testing.assert_array_equal(with_holes[is_scored], dense)


@given(streams())
def test_no_evidence_no_change(stream):
    order, logits, tokens = stream
    mixer = Mixer(vocab_size=VOCAB_SIZE, order=order)
    trace = mixer.trace(logits, tokens)
    unknown = trace.matched_order <= 1
    np.testing.assert_array_equal(trace.nats[unknown], trace.nats_model[unknown])
    fresh = Mixer(vocab_size=VOCAB_SIZE, order=order)
    model = np.exp(logits[0] - logits[0].max())
    np.testing.assert_array_equal(fresh.probs(logits[0]), model / model.sum())


@given(streams(), st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=20))
def test_learning_and_boundaries_equal_the_reference(stream, prefill):
    order, logits, tokens = stream
    fast, slow = Mixer(vocab_size=VOCAB_SIZE, order=order), ReferenceMixer(VOCAB_SIZE, order)
    fast.learn(prefill)
    slow.learn(prefill)
    half = len(tokens) // 2
    for part in (slice(half), slice(half, None)):
        fast.boundary()
        slow.boundary()
        if len(tokens[part]):
            nats = fast.score(logits[part], tokens[part])
            rows = zip(logits[part], tokens[part], strict=True)
            expected = [slow.score(row.tolist(), int(token)) for row, token in rows]
            np.testing.assert_allclose(nats, expected, rtol=1e-12, atol=1e-12)


@given(streams())
def test_regret_stays_within_the_bound_at_every_moment(stream):
    order, logits, tokens = stream
    mixer = Mixer(vocab_size=VOCAB_SIZE, order=order)
    regret = 0.0
    for row, token in zip(logits, tokens, strict=True):
        trace = mixer.trace(row[None], token[None])
        regret += float(trace.nats[0] - trace.nats_model[0]) / math.log(2)
        assert mixer.regret_bits == pytest.approx(regret, abs=1e-9)
        assert mixer.regret_bits <= mixer.bound_bits + 1e-9


ADVERSARIES = {
    "always wrong": lambda rng, n: np.full(n, -30.0),
    "random": lambda rng, n: rng.normal(scale=3, size=n),
    "bait and switch": lambda rng, n: np.where(np.arange(n) < n // 2, 2.0, -12.0),
    "switch and bait": lambda rng, n: np.where(np.arange(n) < n // 2, -12.0, 2.0),
    "equal": lambda rng, n: np.zeros(n),
}


def exact_regret(guard, log_p, log_inner):
    """Nats (T,) spent beyond the model, by the sums over all paths that the guard stands for."""
    if isinstance(guard, Guard):  # the product of the mixture is the mean of the two products
        ahead = np.cumsum(log_inner - log_p)
        return math.log(2) - np.logaddexp(0.0, ahead)
    regret, weights = (
        [0.0],
        np.array([0.5, 0.5]),
    )  # fixed share, in linear space: short streams only
    for t, (a, b) in enumerate(zip(log_p, log_inner, strict=True), start=1):
        joint = weights * np.exp([0.0, b - a])
        regret.append(regret[-1] - math.log(joint.sum()))
        weights = joint / joint.sum()
        weights = (1 - 1 / (t + 1)) * weights + 0.5 / (t + 1)
    return np.array(regret[1:])


@pytest.mark.parametrize("make", [Guard, SwitchingGuard])
@pytest.mark.parametrize("name", ADVERSARIES)
@given(seed=st.integers(0, 2**32 - 1), n_tokens=st.integers(1, 3000))
def test_no_adversary_breaks_the_bound(make, name, seed, n_tokens):
    """Inner log-probabilities better or worse than the model's by what the adversary says."""
    rng = np.random.default_rng(seed)
    log_p = rng.uniform(-12, -3, size=n_tokens)
    log_inner = np.minimum(log_p + ADVERSARIES[name](rng, n_tokens), 0.0)
    guard = make()
    half = n_tokens // 2
    guarded = np.concatenate([guard.mix(log_p[:half], log_inner[:half]),
                              guard.mix(log_p[half:], log_inner[half:])])  # fmt: skip
    regrets = np.cumsum(log_p - guarded)
    np.testing.assert_allclose(regrets, exact_regret(make(), log_p, log_inner), atol=1e-6)
    slack = 1e-9 * np.abs(log_p).sum()
    assert guard.regret_bits == pytest.approx(regrets[-1] / math.log(2), abs=1e-6)
    assert guard.regret_bits <= guard.bound_bits + slack
    assert regrets.max() / math.log(2) <= guard.bound_bits + slack


def test_the_switching_bound_is_that_of_the_path_that_never_leaves_the_model():
    guard = SwitchingGuard()
    assert guard.bound_bits == 1.0
    bits = 1.0
    for t in range(1, 200):
        guard.mix(np.zeros(1), np.full(1, -1e6))  # always wrong: the bound is met
        assert guard.bound_bits == pytest.approx(bits, rel=1e-12)
        assert guard.regret_bits == pytest.approx(bits, rel=1e-12)
        bits -= math.log2(1 - 0.5 / (t + 1))


@pytest.mark.slow
@pytest.mark.skipif(config.DISABLE_JIT, reason="ten million tokens need compiled kernels")
@pytest.mark.parametrize(("make", "bound"), [(Guard, 1.0), (SwitchingGuard, 12.46)])
def test_bait_and_switch_for_ten_million_tokens(make, bound):
    """Weights in linear space lost 67 million bits here: they underflow and never come back."""
    n_tokens = 10_000_000
    log_p = np.full(n_tokens, math.log(0.01))
    log_inner = np.where(np.arange(n_tokens) < n_tokens // 2, math.log(0.9), math.log(1e-6))
    guard = make()
    guarded = guard.mix(log_p, log_inner)
    assert guard.bound_bits <= bound
    assert math.fsum(log_p - guarded) / math.log(2) == pytest.approx(guard.regret_bits, rel=1e-9)
    if make is SwitchingGuard:  # it switched, and keeps what the good half saved
        assert guard.regret_bits < -0.49 * n_tokens * math.log2(90)
    else:
        assert guard.regret_bits == pytest.approx(1.0, abs=1e-6)
        assert guard.regret_bits <= guard.bound_bits


def test_without_a_guard_the_regret_is_what_was_spent(rng):
    guard = Unguarded()
    log_p, log_inner = -rng.random((2, 1000))
    np.testing.assert_array_equal(guard.mix(log_p, log_inner), log_inner)
    assert guard.regret_bits == pytest.approx((log_p - log_inner).sum() / math.log(2))
    assert guard.bound_bits == math.inf


TOKENS = {
    "uniform random": lambda rng, n: rng.integers(0, 4, n),
    "one token for ever": lambda rng, n: np.zeros(n, int),
    "bait and switch": lambda rng, n: np.r_[np.arange(n // 2) % 4, rng.integers(0, 4, n - n // 2)],
}  # fmt: skip


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("sureness", [0.0, 12.0])
@pytest.mark.parametrize("order", [1, 2, 12])
def test_whole_streams_stay_within_the_bound(name, sureness, order, rng):
    """Clueless and oracle models, and at the end probs still is what score charges."""
    n_tokens = 200 if config.DISABLE_JIT else 3000
    tokens = TOKENS[name](rng, n_tokens)
    logits = np.zeros((n_tokens, 4))
    logits[np.arange(n_tokens), tokens] = sureness
    mixed = Mixer(vocab_size=4, order=order)
    trace = mixed.trace(logits, tokens)
    regrets = np.cumsum(trace.nats - trace.nats_model) / math.log(2)
    assert regrets.max() <= mixed.bound_bits + 1e-9
    assert mixed.regret_bits <= mixed.bound_bits
    assert mixed.regret_bits == pytest.approx(regrets[-1], abs=1e-6)
    row = np.array([0.0, -1.0, -90.0, -200.0])
    p = mixed.probs(row)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert mixed.score(row[None], [3])[0] == pytest.approx(-math.log(p[3]), rel=1e-9)


@given(streams(), st.booleans(), st.sampled_from(["gate+guard", "tilt+gate+switch"]))
def test_saved_losses_cost_what_the_linear_part_costs(stream, knows_entropy, experts):
    order, logits, tokens = stream
    trace = Mixer(vocab_size=VOCAB_SIZE, order=order).trace(logits, tokens)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(axis=1)
    saved = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts)
    nats = saved.score_nll(trace.nats_model, tokens, entropy if knows_entropy else None)
    linear = Mixer(vocab_size=VOCAB_SIZE, order=order, experts=experts.replace("tilt+", ""))
    slow = ReferenceMixer(VOCAB_SIZE, order, experts.replace("tilt+", ""))
    if knows_entropy:
        np.testing.assert_allclose(nats, linear.score(logits, tokens), rtol=1e-9, atol=1e-12)
    else:
        slow.knows_entropy = False
        expected = [slow.score(row.tolist(), int(t)) for row, t in zip(logits, tokens, strict=True)]
        np.testing.assert_allclose(nats, expected, rtol=1e-9, atol=1e-12)
    assert saved.regret_bits <= saved.bound_bits + 1e-9


@given(streams())
def test_saved_losses_and_logits_may_alternate(stream):
    """The hints learn from saved losses too: what comes after is what it would have been."""
    order, logits, tokens = stream
    half = len(tokens) // 2
    mixer = Mixer(vocab_size=VOCAB_SIZE, order=order)
    if half:
        mixer.score_nll(np.ones(half), tokens[:half])
    row = logits[half]
    p = mixer.probs(row)
    nats = mixer.score(row[None], tokens[half : half + 1])
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert nats[0] == pytest.approx(-math.log(p[tokens[half]]), rel=1e-9, abs=1e-9)
