"""Rounding: what is measured of a scorer's numbers, and what counts as rounding."""

import numpy as np
import pytest

from ngrammix.auditing.rounding import (
    UNITS,
    Rounding,
    is_of_the_end,
    measure_unit,
    moved,
    rounded,
    rounding_of_length,
    rounding_of_repeats,
    spacing_of_logits,
    step_of,
)

RNG = np.random.default_rng(0)
NATS = RNG.exponential(3.0, 200)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_spacing_of_scores(dtype):
    assert measure_unit([rounded(NATS, dtype)]) == (UNITS[dtype], 0.0)
    assert measure_unit([rounded(NATS, dtype)[:1]])[0] == UNITS[dtype]


def test_rounding_is_that_of_torch():
    torch = pytest.importorskip("torch")
    values = np.concatenate([NATS, -NATS, [0.0, 1.00390625, 1.01171875, 3e38]])
    expected = torch.tensor(values).to(torch.bfloat16).double().numpy()
    # By way of float32: torch rounds once.
    close = np.abs(rounded(values, "bfloat16") - expected) <= 2.0**-8 * np.abs(expected)
    assert close.all()
    assert (rounded(values, "bfloat16") == expected).mean() > 0.99


def test_round_numbers_say_nothing():
    assert measure_unit([np.array([0.0, 0.5, 1.25])])[0] == UNITS["float64"]
    assert step_of(np.array([0.0, 0.5, 1.25])) == 0.0


def test_probabilities_of_16_bits_are_seen_through_the_logarithm():
    p = rounded(RNG.dirichlet(np.ones(64)), "bfloat16")
    assert measure_unit([-np.log(p)]) == (UNITS["float64"], UNITS["bfloat16"])
    assert measure_unit([-np.log(RNG.dirichlet(np.ones(64)))])[1] == 0.0


@pytest.mark.parametrize("digits", [2, 4, 8])
def test_decimals(digits):
    assert step_of(np.round(NATS, digits)) == 10.0**-digits
    assert step_of(NATS) == 0.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_logits_of_16_bits_are_seen_through_the_softmax(dtype):
    logits = rounded(RNG.normal(0, 4, 64), dtype)
    nats = np.log(np.exp(logits).sum()) - logits
    assert spacing_of_logits(nats.astype(np.float32).astype(np.float64)) == UNITS[dtype]
    nats[:3] += 0.001  # tokens that were scored in another shape
    assert spacing_of_logits(nats) == UNITS[dtype]


def test_other_rows_are_not_taken_for_logits_of_16_bits():
    for _ in range(20):
        assert spacing_of_logits(-np.log(RNG.dirichlet(np.ones(64)))) == 0.0
        counts = RNG.integers(1, 400, 64)
        assert spacing_of_logits(-np.log(counts / counts.sum())) == 0.0
    assert spacing_of_logits(np.log([2.0, 3.0])) == 0.0


def test_moves():
    a = np.array([1.0, np.inf, np.nan, 1.0, np.inf])
    b = np.array([1.5, np.inf, np.nan, np.inf, 2.0])
    assert moved(a, b).tolist() == [0.5, 0.0, 0.0, np.inf, np.inf]


def test_what_a_length_can_round():
    few, many = np.zeros(100), np.zeros(100)
    many[7] = 0.004  # a step of a logit in bfloat16
    assert rounding_of_length([many], few) == 0.004
    many[8] = 0.5
    assert rounding_of_length([many], few) is None
    assert rounding_of_length([np.full(100, 0.06)], few) is None  # half of the scores this far
    # A weight that follows the length: one token less moves it by less than many do.
    assert rounding_of_length([np.full(100, 0.01)], np.full(100, 0.0005)) is None


def test_what_a_second_run_can_round():
    nats, unit = np.full(100, 3.0), UNITS["float32"]
    noise = RNG.uniform(0, 0.02, 100)
    assert rounding_of_repeats(noise, nats, unit) == noise.max()
    assert rounding_of_repeats(noise, nats, UNITS["float64"]) is None  # float64 does not move
    one = np.zeros(100)
    one[5] = 0.02
    assert rounding_of_repeats(one, nats, unit) is None  # chance, at single tokens
    assert rounding_of_repeats(np.full(100, 0.2), nats, unit) is None  # too far


def test_sums_are_held_to_what_the_scores_allow():
    nats = np.full(32, np.log(32))
    assert Rounding().of_sum(nats) == pytest.approx(5e-5)
    assert Rounding(unit=UNITS["bfloat16"]).of_sum(nats) > 0.01
    assert np.isfinite(Rounding().of_sum(np.array([0.0, np.inf])))
    assert np.isfinite(Rounding().between(np.array([0.0, np.inf]))).all()


def at(length, *positions):
    """Moves of the scores of a prefix: 0.01 nats at these positions, counted from its end."""
    moves = np.zeros(length)
    moves[[length - 1 - k for k in positions]] = 0.01
    return length, moves


def test_moves_at_the_end_of_each_prefix_are_no_rounding():
    lengths = (16, 23, 37, 41, 64, 70, 90)
    assert is_of_the_end(dict(at(n, 0) for n in lengths))
    assert is_of_the_end(dict(at(n, 0, 1) for n in lengths))
    assert not is_of_the_end(dict(at(n, 2) for n in lengths))
    assert not is_of_the_end(dict(at(n, 0) for n in lengths) | dict([at(50, 7)]))
    # One token that rounds in another way stands at the end of few prefixes.
    assert not is_of_the_end(dict([at(40, 0), at(41, 1), at(60, 20), at(90, 50)]))


def test_a_few_moves_at_the_end_may_be_chance():
    assert not is_of_the_end(dict(at(n, 0) for n in (2, 3, 4, 8, 16)))
    assert not is_of_the_end({n: np.full(n, 1e-6) for n in (16, 32, 64, 128, 256, 512)})
    assert not is_of_the_end({})
