"""Features of the published rules: raw counts are those of a loop, hints the model's."""

import numpy as np
import pytest

from eval.comparing.features import RawAndKnCounts, longest_hint, make_features
from ngrammix import NgramCache

ORDER, V = 4, 3


def followers_by_hand(history, k):
    """Every token that came after the last k tokens of history, as often as it came."""
    context = history[len(history) - k :]
    ends = [i for i in range(k, len(history)) if history[i - k : i] == context]
    return [history[i] for i in ends] if len(history) >= k else []


@pytest.fixture
def tokens(rng):
    return rng.integers(0, V, 60)


def test_raw_counts_are_those_of_a_loop(tokens):
    counts = RawAndKnCounts(ORDER, vocab_size=V)
    counts.learn(tokens[:10])
    pieces = [counts.observe(tokens[10:30])[1], counts.observe(tokens[30:])[1]]
    raw = np.concatenate([piece._columns for piece in pieces], axis=1)
    stream = tokens.tolist()
    for t in range(10, 60):
        for k in range(ORDER):
            seen = followers_by_hand(stream[:t], k)
            n, u, c = raw[k, t - 10, :3]
            assert (n, u, c) == (len(seen), len(set(seen)), seen.count(stream[t]))


def test_the_other_counts_are_the_caches_own(tokens):
    evidence, raw = RawAndKnCounts(ORDER, vocab_size=V).observe(tokens)
    alone = NgramCache(order=ORDER, vocab_size=V).observe(tokens)
    np.testing.assert_array_equal(evidence._columns, alone._columns)
    np.testing.assert_array_equal(raw._columns[-1], alone._columns[-1])


def test_a_boundary_cuts_every_count():
    counts = RawAndKnCounts(ORDER, vocab_size=V)
    counts.learn([0, 1, 0, 1])
    counts.boundary()
    evidence, raw = counts.observe([0])
    assert evidence.matched_order == raw.matched_order == 1


def test_hints_and_what_the_model_makes_of_them(rng, tokens):
    logits = rng.normal(size=(60, V))
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    features = make_features(RawAndKnCounts(ORDER, vocab_size=V), logits, tokens, np.arange(60))
    hints = longest_hint(features.evidence)
    np.testing.assert_array_equal(
        features.context, np.maximum(features.evidence.matched_order - 1, 0)
    )
    np.testing.assert_array_equal(hints == -1, features.context == 0)
    np.testing.assert_array_equal(features.log_hint == -np.inf, hints == -1)
    np.testing.assert_array_equal(features.is_hint, hints == tokens)
    for t in np.flatnonzero(features.context):
        k = features.context[t]
        assert features.log_hint[t] == pytest.approx(log_softmax[t, hints[t]], rel=1e-12)
        n, share = features.evidence.followers[k, t], features.evidence.hint_count[k, t]
        assert (features.followers[t], features.confidence[t]) == (n, share / n)
        c = features.evidence.target_count[k, t]
        assert np.exp(features.log_match[t]) == pytest.approx(c / n, rel=1e-12)
