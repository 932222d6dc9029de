"""Laws of the mixer on long streams, hopeless streams, and real text beside published rules."""

import math

import numpy as np
import pytest

from eval.comparing.comparison import compare_source
from eval.comparing.names import DEFAULT
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.comparing.sources import SavedSource
from ngrammix import Mixer
from ngrammix.experts.choices import CHOICES

V = 48


def repeating(rng, n_tokens):
    """Tokens (T,) of phrases that come back, with noise between."""
    phrases = [rng.integers(0, V, rng.integers(3, 60)) for _ in range(40)]
    pieces = [phrases[i] for i in rng.integers(0, len(phrases), n_tokens // 10)]
    for i in range(0, len(pieces), 2):
        pieces[i] = rng.integers(0, V, 20)
    return np.concatenate(pieces)[:n_tokens]


@pytest.mark.slow
@pytest.mark.parametrize("memory_limit", [None, "440 KiB"])  # nearly the smallest of order 5
@pytest.mark.parametrize("experts", ["tilt+gate+guard", "tilt+gate+switch"])
def test_probs_is_what_score_charges_at_every_one_of_ten_thousand_positions(
    rng, experts, memory_limit
):
    tokens = repeating(rng, 10_000)
    logits = rng.normal(scale=2, size=(len(tokens), V))
    logits[np.arange(len(tokens)), tokens] += rng.normal(scale=2, size=len(tokens))
    mixer = Mixer(vocab_size=V, order=5, experts=experts, memory_limit=memory_limit)
    mixer.learn(rng.integers(0, V, 10_000))
    worst = worst_sum = 0.0
    for row, token in zip(logits, tokens, strict=True):
        p = mixer.probs(row)
        (nats,) = mixer.score(row[None], [token])
        worst = max(worst, abs(nats + math.log(p[token])))
        worst_sum = max(worst_sum, abs(p.sum() - 1))
    assert worst < 1e-9
    assert worst_sum < 1e-9
    assert mixer.regret_bits < -100  # it was mixed, and it helped
    assert (mixer.cache.stats()["n_evictions"] > 0) == (memory_limit is not None)


def uniform(rng):
    tokens = rng.integers(0, V, 30_000)
    return np.zeros((len(tokens), V)), tokens


def shuffled(rng):
    tokens = rng.permutation(repeating(rng, 30_000))
    frequencies = np.bincount(tokens, minlength=V) / len(tokens)
    return np.tile(np.log(frequencies), (len(tokens), 1)), tokens


def oracle(rng):
    tokens = repeating(rng, 30_000)
    logits = rng.normal(size=(len(tokens), V))
    logits[np.arange(len(tokens)), tokens] += 12
    return logits, tokens


@pytest.mark.parametrize("experts", ["tilt+gate+guard", "tilt+gate+switch"])
@pytest.mark.parametrize("order", [1, 2, 4, 7, 12, 24])
@pytest.mark.parametrize("make", [uniform, shuffled, oracle])
def test_where_nothing_can_be_gained_almost_nothing_is_lost(rng, make, order, experts):
    logits, tokens = make(rng)
    mixer = Mixer(vocab_size=V, order=order, experts=experts)
    nats = mixer.score(logits, tokens)
    assert mixer.regret_bits <= mixer.bound_bits
    if experts.endswith("guard"):
        assert mixer.regret_bits <= 1.0
    model = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(tokens)), tokens]
    assert (nats - model).sum() / math.log(2) == pytest.approx(mixer.regret_bits, abs=1e-6)


@pytest.mark.parametrize("experts", CHOICES)
@pytest.mark.parametrize("scale", [50, 3000, 1e5, 1e288])
def test_models_so_sure_that_probabilities_underflow(rng, scale, experts):
    """Prices of thousands of nats, beyond what e**-x can hold: finite, normalised, bounded."""
    tokens = np.tile(rng.integers(0, 6, 60), 20)
    logits = rng.normal(size=(len(tokens), 20)) * scale
    mixer = Mixer(vocab_size=20, order=5, experts=experts)
    nats = mixer.score(logits, tokens)
    assert np.isfinite(nats).all()
    p = mixer.probs(logits[0])
    assert p.min() >= 0
    assert p.sum() == pytest.approx(1, abs=1e-9)
    assert mixer.regret_bits <= mixer.bound_bits


@pytest.mark.slow
@pytest.mark.parametrize("prefill", [0, 1_500_000])
def test_a_real_model_gains_more_than_under_any_published_rule(parameter_golf, tmp_path, prefill):
    """1.6 times the best rule's gain, each rule at its best setting in hindsight on this text."""
    logits, targets, head, tail = parameter_golf
    np.save(tmp_path / "logits.npy", logits)
    np.save(tmp_path / "tokens.npy", targets)
    before = np.concatenate([tail[: max(prefill - 204_800, 0)], head[:204_800]])
    np.save(tmp_path / "before.npy", before if prefill else head[204_799:204_800])
    source = SavedSource(
        tmp_path / "logits.npy", tmp_path / "tokens.npy", n_bytes=158_557,
        prefill=[tmp_path / "before.npy"],
    )  # fmt: skip
    comparison = compare_source(source, DEFAULT, order=7)
    model, ours, *theirs = comparison.nats.sum(axis=1)
    assert len(theirs) == len(PUBLISHED_RULES)
    assert model - ours >= 1.6 * (model - min(theirs))
