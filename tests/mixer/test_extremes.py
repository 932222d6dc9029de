"""Logits at the ends of their dtype: the mixer stays finite, or refuses before it changes."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import ScoreConfig, score
from eval.scoring.bootstrap import Bootstrap
from ngrammix import Mixer, ModelLogprobs, read_logits
from ngrammix.checks import MAX_NATS, MAX_POSITION
from ngrammix.experts.choices import CHOICES
from tests.toy import ToyModel

V = 5
MASKED = "the model's probability of a target must be > 0, got 0"


def make(experts="tilt+gate+guard", **options):
    options = {"vocab_size": V, "order": 3} | options
    return Mixer(experts=experts, allow_probabilities=True, check_overlaps=False, **options)


def values_of(dtype):
    info = np.finfo(dtype)
    small = [info.smallest_subnormal, info.tiny, info.eps, 1.0, 50.0, 700.0, 1e4]
    large = [info.max / 4, info.max / 2, info.max, info.max / 1e4]
    edges = np.array([0.0, *small, *large], dtype)
    return [*edges.tolist(), *(-edges).tolist(), -np.inf]


def check_mixer(mixer, logits_row, path=None):
    """It is finite, its distribution sums to 1, its bound holds, and it can be saved."""
    assert all(np.isfinite(array).all() for array in mixer.state_dict().values())
    assert np.isfinite(mixer.regret_bits)
    assert mixer.regret_bits <= mixer.bound_bits
    p = mixer.probs(logits_row)
    assert abs(p.sum() - 1) < 1e-9
    assert (p >= 0).all()
    if path is None:
        return
    mixer.save(path)
    again = Mixer.load(path, allow_probabilities=True)
    np.testing.assert_array_equal(again.probs(logits_row), p)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_any_logits_leave_a_mixer_that_can_go_on(dtype):
    rows = st.lists(st.sampled_from(values_of(dtype)), min_size=V, max_size=V)
    tokens = st.integers(0, 2)

    @given(st.lists(st.tuples(rows, tokens), min_size=1, max_size=30), st.sampled_from(CHOICES))
    def check(stream, experts):
        mixer = make(experts)
        n_scored = 0
        for row, token in stream:
            logits = np.array([row], dtype)
            with np.errstate(over="ignore"):
                is_masked = float(row[token]) - float(max(row)) < -MAX_NATS or max(row) == -np.inf
            if is_masked:
                with pytest.raises(ValueError, match=MASKED):
                    mixer.score(logits, [token])
                continue
            n_scored += 1
            assert 0 <= mixer.score(logits, [token])[0] < np.inf
        assert mixer.position == n_scored
        check_mixer(mixer, np.zeros(V, dtype))

    check()


def test_a_mask_of_float64_is_refused_as_minus_infinity_is(tmp_path):
    for mask in (np.finfo(np.float64).min, -1.0001 * MAX_NATS, -np.inf):
        mixer = make()
        mixer.score(np.zeros((40, V)), np.tile([0, 1], 20))
        before = mixer.probs(np.zeros(V))
        logits = np.zeros((3, V))
        logits[1, 2] = mask
        with pytest.raises(ValueError) as error:
            mixer.score(logits, [2, 2, 2])
        assert str(error.value) == (
            f"{MASKED} for token 2 at position 1; mask fewer logits, or ignore the position "
            "(ignore_index)"
        )
        np.testing.assert_array_equal(mixer.probs(np.zeros(V)), before)
        check_mixer(mixer, logits[1], tmp_path / "m")


def test_the_largest_costs_sum_to_a_finite_number():
    assert np.isfinite(MAX_POSITION * MAX_NATS * 2**30)


@pytest.mark.filterwarnings("ignore::ngrammix.ShiftWarning")
@pytest.mark.parametrize("experts", ["tilt+gate+guard", "tilt+gate+switch", "gate", "tilt"])
@pytest.mark.parametrize("mask", [np.finfo(np.float32).min, -0.999 * MAX_NATS])
def test_hundreds_of_thousands_of_masked_targets_in_a_row(experts, mask, tmp_path):
    n = 1 << 18
    logits = np.zeros((n, 2))
    tokens = np.random.default_rng(0).integers(0, 2, n)
    logits[np.arange(n), tokens] = mask
    mixer = make(experts, vocab_size=2)
    scores = mixer.trace(logits, tokens)
    assert np.isfinite(scores.nats).all()
    assert np.isfinite(scores.nats.sum())
    assert np.isfinite(scores.nats_model.sum())
    check_mixer(mixer, np.zeros(2), tmp_path / "m")


def test_a_vocabulary_of_one_token(tmp_path):
    mixer = make(vocab_size=1)
    for logit in (0.0, np.finfo(np.float64).max, np.finfo(np.float64).min, 5e-324):
        nats = mixer.score(np.full((9, 1), logit), np.zeros(9, int))
        np.testing.assert_allclose(nats, 0, atol=1e-12)
    check_mixer(mixer, np.zeros(1), tmp_path / "m")


def test_saved_losses_have_the_same_limit():
    with pytest.raises(ValueError, match=r"nll must be >= 0 and below 1e\+290, got 1e\+300"):
        make().score_nll(np.array([1.0, 1e300]), [0, 1])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"log_p": np.array([-1.0, np.nan])}, "log_p must be log-probabilities <= 0, got nan"),
        ({"log_p": np.array([-1.0, 3.0])}, "log_p must be log-probabilities <= 0, got 3.0"),
        ({"log_p": np.array([-1.0, -np.inf])}, f"{MASKED} at position 3; mask fewer logits"),
        ({"log_p": np.zeros(2, np.float32)}, "log_p must be float64 of shape (2,), got float32"),
        ({"log_top": np.full(2, np.nan)}, "log_top must be log-probabilities <= 0, got nan"),
        (
            {"log_top": np.zeros(1)},
            "log_top must be float64 of shape (2,), got float64 of shape (1",
        ),
        ({"log_hints": np.empty((2, 0))}, "log_hints must be float64 of shape (2, "),
        (
            {"entropy": np.empty(0)},
            "entropy must be float64 of shape (2,), got float64 of shape (0",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(changes, text):
    mixer = make()
    mixer.learn([0, 1])
    observed = mixer.observe([0, 1])
    good = read_logits(np.zeros((2, V)), observed.tokens, np.arange(2)).lookup(observed.hint_tokens)
    with pytest.raises(ValueError) as error:
        mixer.score_observed(observed, ModelLogprobs(**(vars(good) | changes)))
    assert str(error.value).startswith(text)
    assert len(mixer.score_observed(observed, good).nats) == 2


def test_resampled_sums_never_wrap_around():
    bootstrap = Bootstrap(1)
    bootstrap.update(np.array([[2.0**39], [1.0]]))
    before = bootstrap.state_dict()
    for units in ([[2.0**40], [1.0]], [[1e300], [1.0]], [[np.inf], [1.0]], [[np.nan], [1.0]]):
        with pytest.raises(ValueError, match=r"costs must sum to less than 1\.1e\+12 nats"):
            bootstrap.update(np.array(units))
    assert bootstrap.state_dict() == before


@pytest.mark.parametrize("mixer", [choice for choice in CHOICES if "guard" not in choice])
def test_a_result_without_a_bound_is_json(mixer, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 3)
    result = score(ToyModel(), tmp_path / "a.txt", ScoreConfig(mixer=mixer))

    def refuse(constant):
        raise AssertionError(constant)

    flat = json.loads(result.to_json(), parse_constant=refuse)
    assert flat["bound_bits"] is None or "switch" in mixer
    assert "inf" in result.table() or "switch" in mixer


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32", "float64"])
def test_tensors_at_the_ends_of_their_dtype(name, tmp_path):
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, name)
    info = torch.finfo(dtype)
    mixer = make()
    tokens = np.tile([0, 1, 2], 9)
    for low, high in ((info.min, 0.0), (info.min, info.max), (0.0, info.max), (-info.tiny, 0.0)):
        logits = torch.full((27, V), low, dtype=dtype)
        logits[torch.arange(27), torch.from_numpy(tokens)] = high
        assert (mixer.score(logits, tokens) >= 0).all()
        check_mixer(mixer, logits[0])
    check_mixer(mixer, torch.zeros(V, dtype=dtype), tmp_path / "m")
