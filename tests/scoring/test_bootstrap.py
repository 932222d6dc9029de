"""Standard errors: the plain bootstrap and the delta method, pairing, cuts, and the weights."""

import json
from itertools import pairwise
from math import exp, factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.bootstrap import (
    POISSON,
    RESAMPLES,
    Bootstrap,
    deviations,
    sampling_units,
    standard_errors,
    weights,
)

NOISE = 4 / np.sqrt(2 * RESAMPLES)  # four standard deviations of a standard error, relative


def plain_bootstrap(numerators, denominators, rng):
    """Draw U of U units with replacement, 1,000 times: the textbook's way, all in memory."""
    n_units = len(denominators)
    drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), RESAMPLES)
    return (drawn @ numerators.T / (drawn @ denominators)[:, None]).std(axis=0, ddof=1)


def delta_method(numerators, denominators):
    """Linearise the ratio at its mean: sqrt(sum of squared residuals) / size."""
    size = denominators.sum()
    residuals = numerators - numerators.sum(axis=1)[:, None] / size * denominators
    return np.sqrt((residuals**2).sum(axis=1)) / size


def random_units(seed, n_units):
    """(3, U) nats of a model, of a mixture that follows it, and bytes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(10, 5000, n_units).astype(float)
    model = sizes * rng.gamma(8, 1 / 8, n_units)
    return np.stack([model, model * rng.uniform(0.8, 0.9, n_units), sizes])


def test_of_a_mean_it_is_the_deviation_over_root_n(rng):
    values = rng.normal(3, 2, (2, 400))
    errors = standard_errors(values, np.ones(400))
    np.testing.assert_allclose(errors, values.std(axis=1) / 20, rtol=NOISE)
    np.testing.assert_allclose(standard_errors(values, np.full(400, 8.0)), errors / 8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_units", [100, 1000])
def test_of_a_ratio_it_is_the_delta_methods_and_the_plain_bootstraps(seed, n_units):
    *numerators, sizes = random_units(seed, n_units)
    numerators = np.array([*numerators, numerators[0] - numerators[1]])
    errors = standard_errors(numerators, sizes, seed)
    plain = plain_bootstrap(numerators, sizes, np.random.default_rng(seed))
    np.testing.assert_allclose(errors, delta_method(numerators, sizes), rtol=NOISE + 0.03)
    np.testing.assert_allclose(errors, plain, rtol=1.5 * NOISE)


def test_a_paired_difference_is_surer_than_its_parts():
    *numerators, sizes = random_units(0, 200)
    model, mixed = standard_errors(np.array(numerators), sizes)
    difference = standard_errors((numerators[0] - numerators[1])[None], sizes)[0]
    assert difference < 0.5 * min(model, mixed)


def test_a_constant_ratio_has_no_error(rng):
    sizes = rng.integers(1, 50, 30).astype(float)
    np.testing.assert_array_equal(standard_errors(np.stack([2 * sizes, 0 * sizes]), sizes), 0)


def test_all_ratios_see_the_same_resamples(rng):
    a, b = rng.normal(size=(2, 50))
    sizes = np.ones(50)
    errors_of_five = standard_errors(np.stack([a, b, a, a - b, 2 * a]), sizes)
    assert errors_of_five[0] == errors_of_five[2]
    assert errors_of_five[4] == pytest.approx(2 * errors_of_five[0])
    np.testing.assert_allclose(errors_of_five[3], standard_errors((a - b)[None], sizes)[0])
    assert (standard_errors(a[None], sizes, seed=1) != errors_of_five[0]).all()


@given(st.lists(st.integers(0, 300), max_size=4), st.integers(0, 300))
def test_neither_cuts_nor_a_resume_change_a_bit(cuts, resumed_at):
    units = random_units(3, 300)
    whole = Bootstrap(2)
    whole.update(units)
    pieces = Bootstrap(2)
    bounds = sorted({0, 300, resumed_at, *cuts})
    for start, stop in pairwise(bounds):
        if start == resumed_at:
            state = json.loads(json.dumps(pieces.state_dict()))
            pieces = Bootstrap(2)
            pieces.load_state_dict(state)
        pieces.update(units[:, start:stop])
    np.testing.assert_array_equal(pieces.ratios(), whole.ratios())
    assert pieces.state_dict() == whole.state_dict()


def test_unfinished_units_count_once_and_are_not_kept():
    units = random_units(4, 40)
    whole, part = Bootstrap(2), Bootstrap(2)
    whole.update(units)
    part.update(units[:, :39])
    before = part.state_dict()
    np.testing.assert_array_equal(part.ratios(units[:, 39:]), whole.ratios())
    assert part.state_dict() == before
    first = Bootstrap(2)
    first.update(units[:, :1])
    assert first.ratios().shape == (2, 0)
    assert first.ratios(units[:, 1:2]).shape[1] > 0


def test_fewer_than_two_units_say_nothing():
    assert np.isnan(standard_errors(np.ones((3, 1)), np.ones(1))).all()
    assert Bootstrap(3).ratios().shape == (3, 0)
    assert np.isnan(deviations(Bootstrap(3).ratios())).all()


def test_resamples_without_a_byte_are_left_out():
    bootstrap = Bootstrap(1)
    bootstrap.update(np.array([[1.0, 2.0], [1.0, 1.0]]))
    ratios = bootstrap.ratios()[0]
    none = (weights(0, 2, 0) == 0).all(axis=0).sum()
    assert len(ratios) == RESAMPLES - none
    assert none == pytest.approx(RESAMPLES * exp(-2), rel=0.3)
    assert ratios.min() == 1
    assert ratios.max() == 2


def test_units_without_a_byte_have_no_ratio():
    assert np.isnan(standard_errors(np.ones((1, 5)), np.zeros(5))).all()


def test_weights_are_of_the_poisson_distribution():
    chances = [exp(-1) / factorial(k) for k in range(9)]
    np.testing.assert_allclose(np.bincount(POISSON) / 65536, chances, atol=2**-16)
    assert POISSON.mean() == 1
    assert POISSON.astype(float).var() == pytest.approx(1, abs=4e-5)
    drawn = weights(0, 2000, 7)
    assert drawn.mean() == pytest.approx(1, abs=4 / np.sqrt(drawn.size))
    # Neither units nor resamples know of each other.
    assert np.abs(np.corrcoef(drawn[:100]) - np.eye(100)).max() < 5.5 / np.sqrt(RESAMPLES)
    assert np.abs(np.corrcoef(drawn[:, :100].T) - np.eye(100)).max() < 5.5 / np.sqrt(2000)


def test_weights_are_words_of_splitmix64():
    def splitmix64(state):
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    assert splitmix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # the first from seed 0, published
    for unit, word in ((0, 0), (0, 249), (3, 17)):
        z = splitmix64((5 + (250 * unit + word + 1) * 0x9E3779B97F4A7C15) % 2**64)
        expected = [POISSON[z >> shift & 0xFFFF] for shift in (0, 16, 32, 48)]
        assert weights(unit, 1, 5)[0, 4 * word : 4 * word + 4].tolist() == expected


def test_thirty_documents_are_resampled_whole():
    document = np.repeat(np.arange(30), 100)
    unit, what = sampling_units(document)
    np.testing.assert_array_equal(unit, document)
    assert what == "documents"


def test_fewer_give_way_to_blocks():
    unit, what = sampling_units(np.repeat(np.arange(29), 100))
    assert np.bincount(unit).tolist() == [1024, 1024, 852]
    assert what == "blocks of 1,024 tokens"
