"""Laws of the mixer: legal distributions, score before learn, never much worse than the model."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import Mixer
from ngrammix.guard import Guard
from ngrammix.reference import ReferenceMixer

pytestmark = pytest.mark.kernels

VOCAB_SIZE = 4


@st.composite
def streams(draw):
    """(order, logits (T, V), tokens (T,)): a model from clueless to sure, some tokens masked."""
    order = draw(st.integers(1, 6))
    tokens = np.array(draw(st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=50)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(len(tokens), VOCAB_SIZE)) * draw(
        st.sampled_from([0.0, 1.0, 5.0, 30.0])
    )
    if draw(st.booleans()):
        masked = rng.random(logits.shape) < 0.3
        masked[np.arange(len(tokens)), tokens] = False
        logits[masked] = -np.inf
    return order, logits, tokens


@given(streams())
def test_score_equals_the_reference(stream):
    order, logits, tokens = stream
    fast, slow = Mixer(VOCAB_SIZE, order), ReferenceMixer(VOCAB_SIZE, order)
    nats = fast.score(logits, tokens)
    expected = [slow.score(row.tolist(), int(t)) for row, t in zip(logits, tokens, strict=True)]
    np.testing.assert_allclose(nats, expected, rtol=1e-12, atol=1e-12)
    assert fast.regret_bits == pytest.approx(slow.regret_bits, rel=1e-9, abs=1e-9)


@given(streams())
def test_the_distribution_sums_to_one_and_is_what_is_scored(stream):
    order, logits, tokens = stream
    fast, slow = Mixer(VOCAB_SIZE, order), ReferenceMixer(VOCAB_SIZE, order)
    for row, token in zip(logits, tokens, strict=True):
        p = fast.probs(row)
        assert abs(p.sum() - 1) < 1e-9
        np.testing.assert_allclose(p, slow.mixtures(row.tolist())[2], rtol=1e-9, atol=1e-300)
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
    a, b = Mixer(VOCAB_SIZE, order), Mixer(VOCAB_SIZE, order)
    nats_a, nats_b = a.score(logits, tokens), b.score(logits, other)
    np.testing.assert_array_equal(nats_a[:t], nats_b[:t])
    # The prices of x_t and of its substitute are prices of one distribution, fixed by the prefix.
    prefix = Mixer(VOCAB_SIZE, order)
    if t > 0:
        prefix.score(logits[:t], tokens[:t])
    p = prefix.probs(logits[t])
    assert math.exp(-nats_a[t]) == pytest.approx(p[tokens[t]], rel=1e-9)
    assert math.exp(-nats_b[t]) == pytest.approx(p[other[t]], rel=1e-9)


@given(streams(), st.data())
def test_pieces_cost_what_the_whole_costs(stream, data):
    order, logits, tokens = stream
    cut = data.draw(st.integers(1, len(tokens)))
    whole, pieces = Mixer(VOCAB_SIZE, order), Mixer(VOCAB_SIZE, order)
    nats = whole.score(logits, tokens)
    parts = [
        pieces.score(logits[s], tokens[s]) for s in (slice(cut), slice(cut, None)) if len(tokens[s])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), nats)
    assert pieces.regret_bits == whole.regret_bits


@given(streams(), st.data())
def test_ignored_positions_are_as_if_absent(stream, data):
    order, logits, tokens = stream
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(tokens), max_size=len(tokens))))
    targets = np.where(kept, tokens, -100)
    with_holes = Mixer(VOCAB_SIZE, order).score(logits, targets)
    assert (with_holes[~kept] == 0).all()
    if kept.any():
        dense = Mixer(VOCAB_SIZE, order).score(logits[kept], tokens[kept])
        np.testing.assert_array_equal(with_holes[kept], dense)


@given(streams())
def test_no_evidence_no_change(stream):
    order, logits, tokens = stream
    mixer = Mixer(VOCAB_SIZE, order)
    trace = mixer.trace(logits, tokens)
    unknown = trace.matched_order <= 1
    np.testing.assert_array_equal(trace.nats[unknown], trace.nats_model[unknown])
    fresh = Mixer(VOCAB_SIZE, order)
    model = np.exp(logits[0] - logits[0].max())
    np.testing.assert_array_equal(fresh.probs(logits[0]), model / model.sum())


@given(streams(), st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=20))
def test_learning_and_boundaries_equal_the_reference(stream, prefill):
    order, logits, tokens = stream
    fast, slow = Mixer(VOCAB_SIZE, order), ReferenceMixer(VOCAB_SIZE, order)
    fast.learn(prefill)
    slow.learn(prefill)
    half = len(tokens) // 2
    for part in (slice(half), slice(half, None)):
        fast.boundary()
        slow.cache.boundary()
        if len(tokens[part]):
            nats = fast.score(logits[part], tokens[part])
            rows = zip(logits[part], tokens[part], strict=True)
            expected = [slow.score(row.tolist(), int(token)) for row, token in rows]
            np.testing.assert_allclose(nats, expected, rtol=1e-12, atol=1e-12)


@given(streams())
def test_regret_stays_within_the_bound_at_every_moment(stream):
    order, logits, tokens = stream
    mixer = Mixer(VOCAB_SIZE, order)
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


@pytest.mark.parametrize("name", ADVERSARIES)
@given(seed=st.integers(0, 2**32 - 1), n_tokens=st.integers(1, 3000))
def test_the_guard_costs_at_most_a_bit_against_adversaries(name, seed, n_tokens):
    """Inner log-probabilities better or worse than the model's by what the adversary says."""
    rng = np.random.default_rng(seed)
    log_p = rng.uniform(-12, -3, size=n_tokens)
    log_inner = np.minimum(log_p + ADVERSARIES[name](rng, n_tokens), 0.0)
    guard = Guard()
    guarded = guard.mix(log_p, log_inner)
    # The product of the mixture is the mean of the two products (ecosystem theorem: Bayes mixture).
    exact = np.logaddexp(log_p.sum(), log_inner.sum()) - math.log(2)
    assert guarded.sum() == pytest.approx(exact, rel=1e-9, abs=1e-6)
    regrets = np.cumsum(log_p - guarded) / math.log(2)
    slack = 1e-9 * np.abs(log_p).sum()
    assert regrets.max() <= guard.bound_bits + slack
    assert guard.regret_bits == pytest.approx(regrets[-1], abs=1e-6)
