"""Probabilities are no logits: they are refused, real logits never are."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ngrammix import Mixer, read_logits

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
TEXT = (
    "logits must not be normalized, got rows that are >= 0 and sum to 1 at positions {} to {}, as "
    "probabilities do; pass the logits, or log(probabilities), or set allow_probabilities if these "
    "are logits"
)


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def is_refused(logits):
    mixer, text = Mixer(vocab_size=logits.shape[-1]), None
    try:
        mixer.score(logits, np.zeros(logits.shape[:-1], np.int64))
    except ValueError as error:
        text = str(error)
    assert text in (None, TEXT.format(0, len(logits) - 1))
    assert mixer.position == (len(logits) if text is None else 0)
    return text is not None


shapes = st.tuples(st.integers(1, 20), st.integers(1, 40))


@given(shapes, st.integers(0, 2**32 - 1), st.floats(0.01, 8), st.sampled_from(DTYPES))
def test_a_softmax_in_any_dtype_is_refused_and_its_logs_are_not(shape, seed, scale, dtype):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=shape))
    p = torch.softmax(logits.to(dtype), -1)
    q = p.double()
    is_telling = (q.max(1).values < 1) & (q.min(1).values < q.max(1).values)
    enough = int(is_telling.sum()) >= (1 if shape[1] >= 32 else 4)
    assert is_refused(p) == enough
    assert is_refused(p.numpy() if dtype not in (torch.bfloat16,) else p.float()) == enough
    p = p.clamp(min=1e-6)
    assert not is_refused(p.log())
    assert not is_refused(logits.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wide_row_of_generation_is_refused(rng, dtype):
    p = torch.softmax(torch.from_numpy(rng.normal(scale=3, size=(1, 150_000))).to(dtype), -1)
    assert is_refused(p)
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=150_000).probs(p[0])
    assert str(error.value) == TEXT.format(0, 0)


KINDS = {
    "normal": lambda rng, n, v: rng.normal(size=(n, v)),
    "relu": lambda rng, n, v: np.maximum(rng.normal(size=(n, v)), 0),
    "one-hot": lambda rng, n, v: np.eye(v)[rng.integers(0, v, n)],
    "scaled one-hot": lambda rng, n, v: 30 * np.eye(v)[rng.integers(0, v, n)],
    "zeros": lambda rng, n, v: np.zeros((n, v)),
    "ones": lambda rng, n, v: np.ones((n, v)),
    "equal": lambda rng, n, v: np.full((n, v), 1 / v),
    "sigmoid": lambda rng, n, v: 1 / (1 + np.exp(-rng.normal(size=(n, v)))),
    "counts": lambda rng, n, v: rng.integers(0, 3, (n, v)).astype(float),
    "log-probabilities": lambda rng, n, v: np.log(softmax(rng.normal(size=(n, v)))),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_real_logits_are_never_refused(kind, shape, seed):
    assert not is_refused(KINDS[kind](np.random.default_rng(seed), *shape))


@given(arrays.arrays(np.float64, shapes, elements=st.floats(-8, 8)))
def test_no_row_that_is_not_a_distribution_is_refused(logits):
    sums = logits.sum(axis=1)
    is_distribution = (logits.min(axis=1) >= 0) & (abs(sums - 1) <= 0.02)
    if not is_distribution.all():
        assert not is_refused(logits)


def test_one_other_row_is_enough_to_be_taken(rng):
    p = softmax(rng.normal(size=(9, 50)))
    p[8, 0] -= 0.1
    assert not is_refused(p)
    p[8, 0] = -1
    assert not is_refused(p)


def test_the_error_names_the_positions_and_only_scored_rows_count(rng):
    p, targets = softmax(rng.normal(size=(2, 6, 50))), np.full((2, 6), -100)
    targets[0, 2:], targets[1, :3] = 1, 2
    p[1, 3:] = 7  # rows that nobody scores may be anything
    mixer = Mixer(vocab_size=50)
    for verb in (mixer.score, mixer.trace, mixer.cross_entropy):
        with pytest.raises(ValueError) as error:
            verb(p, targets)
        assert str(error.value) == TEXT.format(2, 8)
    with pytest.raises(ValueError) as error:
        read_logits(p[0], np.zeros(6, np.int64), np.arange(7, 13))
    assert str(error.value) == TEXT.format(7, 12)


def test_who_insists_gets_the_scores_of_these_logits(rng):
    p, targets = softmax(rng.normal(size=(40, 50))), rng.integers(0, 50, 40)
    insisting = Mixer(vocab_size=50, allow_probabilities=True)
    shifted = Mixer(vocab_size=50).score(p - 1, targets)  # the same logits to a softmax
    np.testing.assert_allclose(insisting.score(p, targets), shifted, rtol=1e-12)
    np.testing.assert_allclose(insisting.probs(p[0]).sum(), 1, rtol=1e-12)
    assert len(read_logits(p, targets, np.arange(40), allow_probabilities=True).lookup()) == 40


def test_a_loaded_mixer_refuses_unless_told(rng, tmp_path):
    Mixer(vocab_size=50).save(tmp_path / "state")
    p = softmax(rng.normal(size=(1, 50)))
    with pytest.raises(ValueError, match="as probabilities do"):
        Mixer.load(tmp_path / "state").score(p, [0])
    assert Mixer.load(tmp_path / "state", allow_probabilities=True).score(p, [0]).shape == (1,)


def test_the_switch_is_a_flag():
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=5, allow_probabilities=1)
    assert str(error.value) == ("allow_probabilities must be True or False, got 1; leave it out")
