"""The zoo of scorers is what it says: brute force finds what each breaks, or nothing."""

import numpy as np
import pytest

from tests.auditing.honest import HONEST
from tests.auditing.oracle import breaks_causality, breaks_normalisation, breaks_single_pass
from tests.auditing.parts import text
from tests.auditing.planted import PLANTED

VOCAB_SIZE = 16


def some(rng, n, limit=600):
    """All of range(1, n), or `limit` of them."""
    return np.arange(1, n) if n <= limit else np.sort(rng.choice(np.arange(1, n), limit, False))


def broken_conditions(planted, seed):
    """The conditions that a planted scorer breaks on one stream."""
    rng, n = np.random.default_rng(seed), planted.n_tokens
    tokens, score = text(seed, VOCAB_SIZE, n), planted.make(seed, VOCAB_SIZE)
    if breaks_single_pass(score, tokens, VOCAB_SIZE, rng):
        return {"C4"}
    cuts = some(rng, n)
    places = np.arange(n) if "C2" in planted.main else cuts[:: max(1, len(cuts) // 40)]
    broken = set()
    if breaks_causality(score, tokens, VOCAB_SIZE, cuts, rng, planted.rounding):
        broken.add("C1")
    if breaks_normalisation(score, tokens, VOCAB_SIZE, places, planted.rounding):
        broken.add("C2")
    return broken


def needs_every_sum(name):
    """Whether the oracle must add up at more than a thousand positions."""
    return "C2" in PLANTED[name].main and PLANTED[name].n_tokens > 1000


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * needs_every_sum(k)) for k in PLANTED]
)
def test_a_planted_scorer_breaks_what_it_says(name):
    planted = PLANTED[name]
    broken = set()
    for seed in range(4):
        broken |= set() if broken & planted.main else broken_conditions(planted, seed)
    assert broken & planted.main
    assert broken <= planted.conditions


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_scorer_scores_plausibly(name):
    planted = PLANTED[name]
    tokens = text(1, VOCAB_SIZE, planted.n_tokens)
    nats = np.asarray(planted.make(1, VOCAB_SIZE)(tokens))
    assert nats.dtype in (np.float32, np.float64)
    with np.errstate(invalid="ignore"):
        assert np.nanmedian(nats) < 2 * np.log(VOCAB_SIZE)


def guarded(score):
    """A scorer whose input and output are its own: some write into them."""
    return lambda tokens: np.asarray(score(tokens.copy())).copy()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_scorer_breaks_nothing(name):
    if name.startswith("torch"):
        pytest.importorskip("torch")
    honest, rng = HONEST[name], np.random.default_rng(3)
    tokens = text(3, VOCAB_SIZE, 80)
    score = guarded(honest.make(3, VOCAB_SIZE))
    nats = score(tokens)
    assert nats.shape == tokens.shape
    np.testing.assert_allclose(score(tokens), nats, rtol=0, atol=honest.rounding)
    cuts = np.arange(1, len(tokens), 3)
    assert not breaks_causality(score, tokens, VOCAB_SIZE, cuts, rng, honest.rounding)
    places = np.arange(0, len(tokens), 11)
    assert not breaks_normalisation(score, tokens, VOCAB_SIZE, places, honest.rounding)
