"""Standard errors: known cases, pairing, and what is resampled."""

import numpy as np
import pytest

from eval.bootstrap import RESAMPLES, sampling_units, standard_errors

NOISE = 4 / np.sqrt(2 * RESAMPLES)  # four standard deviations of a standard error, relative


def test_of_a_mean_it_is_the_deviation_over_root_n(rng):
    values = rng.normal(3, 2, (2, 400))
    errors = standard_errors(values, np.ones(400))
    np.testing.assert_allclose(errors, values.std(axis=1) / 20, rtol=NOISE)
    np.testing.assert_allclose(standard_errors(values, np.full(400, 8.0)), errors / 8)


def test_of_a_ratio_it_is_the_delta_methods(rng):
    sizes = rng.integers(10, 5000, 400).astype(float)
    sums = 0.7 * sizes + rng.normal(0, 3 * np.sqrt(sizes))
    residuals = sums - sums.sum() / sizes.sum() * sizes
    expected = np.sqrt((residuals**2).sum()) / sizes.sum()
    assert standard_errors(sums[None], sizes) == pytest.approx(expected, rel=NOISE)


def test_a_constant_ratio_has_no_error(rng):
    sizes = rng.integers(1, 50, 30).astype(float)
    np.testing.assert_allclose(standard_errors(np.stack([2 * sizes, 0 * sizes]), sizes), 0)


def test_all_ratios_see_the_same_resamples(rng):
    a, b = rng.normal(size=(2, 50))
    sizes = np.ones(50)
    together = standard_errors(np.stack([a, b, a, a - b, 2 * a]), sizes)
    assert together[0] == together[2]
    assert together[4] == pytest.approx(2 * together[0])
    np.testing.assert_allclose(together[3], standard_errors((a - b)[None], sizes)[0])
    assert (standard_errors(a[None], sizes, seed=1) != together[0]).all()


def test_one_unit_says_nothing():
    assert np.isnan(standard_errors(np.ones((3, 1)), np.ones(1))).all()


def test_thirty_documents_are_resampled_whole():
    document = np.repeat(np.arange(30), 100)
    unit, what = sampling_units(document)
    np.testing.assert_array_equal(unit, document)
    assert what == "documents"


def test_fewer_give_way_to_blocks():
    unit, what = sampling_units(np.repeat(np.arange(29), 100))
    assert np.bincount(unit).tolist() == [1024, 1024, 852]
    assert what == "blocks of 1,024 tokens"
