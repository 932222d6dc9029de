"""kmeans: what it finds, what repairs it, and every refusal."""

import numpy as np
import pytest

from quant.numerics import kmeans as module
from quant.numerics.kmeans import farthest, kmeans, nearest, start

pytestmark = pytest.mark.kernels


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def error(points, centroids):
    return np.square(points - centroids[nearest(points, centroids)], dtype=np.float64).sum()


def test_clusters_that_lie_apart_are_found(rng):
    middles = 100 * rng.standard_normal((8, 3))
    points = np.repeat(middles, 20, axis=0) + rng.standard_normal((160, 3))
    centroids = kmeans(points, 8)
    expected = points.reshape(8, 20, 3).mean(axis=1)
    codes = nearest(expected, centroids)
    assert sorted(codes) == list(range(8))
    np.testing.assert_allclose(centroids[codes], expected, rtol=1e-5, atol=1e-5)


def test_a_seed_repeats_itself_and_another_differs(rng):
    points = rng.standard_normal((300, 2))
    np.testing.assert_array_equal(kmeans(points, 9, seed=4), kmeans(points, 9, seed=4))
    assert not np.array_equal(kmeans(points, 9, seed=4), kmeans(points, 9, seed=5))


def test_more_iterations_lower_the_error(rng):
    points = rng.standard_normal((400, 2)).astype(np.float32)
    errors = [error(points, kmeans(points, 16, iterations=n, tolerance=0)) for n in (1, 3, 30)]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < errors[0]


def test_weights_are_repetitions(rng):
    points = rng.standard_normal((30, 2)).astype(np.float32)
    weights = rng.integers(0, 4, 30)
    weighted = kmeans(points, 1, weights=weights)
    np.testing.assert_allclose(weighted, kmeans(np.repeat(points, weights, axis=0), 1), rtol=1e-6)
    alone = kmeans(points, 5, weights=np.arange(30) == 7)
    np.testing.assert_array_equal(alone, points[7:8])


def test_the_start_draws_points_that_differ_by_what_they_count():
    points = np.float32([[0, 0]] * 50 + [[9, 0]] + [[0, 1e-3]] * 2)
    drawn = start(points, np.ones(len(points)), 2, seed=0)
    assert [9, 0] in drawn.tolist()
    assert len(start(points, np.ones(len(points)), 5, seed=0)) == 3


def test_points_that_the_sample_missed_are_found(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE_PER_CENTROID", 1)
    points = np.float32([[i % 2] for i in range(200)] + [[50], [70]])
    assert sorted(kmeans(points, 4).ravel().tolist()) == [0, 1, 50, 70]


def test_what_no_point_is_nearest_to_goes_where_the_error_is():
    points = np.float32([[0], [1], [5], [7]])
    chosen = farthest(points, np.array([1.0, 1.0, 1.0, 1.0]), np.float32([[0]]), 2)
    assert chosen.ravel().tolist() == [7, 5]
    weighted = farthest(points, np.array([1.0, 1.0, 9.0, 1.0]), np.float32([[0]]), 1)
    assert weighted.tolist() == [[5]]
    assert len(farthest(points, np.ones(4), points[:3], 3)) == 1


@pytest.mark.parametrize("factor", [2.0**-140, 2.0**-60, 1.0, 2.0**120])
def test_a_power_of_two_scales_the_result(rng, factor):
    points = rng.integers(-9, 9, (60, 3)).astype(np.float32)
    scaled = kmeans(points * np.float32(factor), 5)
    tolerance = {} if factor > 1e-30 else {"atol": 1e-44}  # of numbers below the normal ones
    np.testing.assert_allclose(scaled, kmeans(points, 5) * np.float32(factor), rtol=0, **tolerance)
    codes = nearest(points, points[:7])
    huge = np.float32(factor)
    np.testing.assert_array_equal(nearest(points * huge, points[:7] * huge), codes)


def test_distances_far_from_zero_are_exact():
    points = np.float32([[1000.0], [1000.001], [1000.002]])
    np.testing.assert_array_equal(nearest(points, points), [0, 1, 2])


def test_the_first_of_equals_is_taken():
    centroids = np.float32([[2, 0], [0, 1], [1, 0], [0, -1], [1, 0]])
    np.testing.assert_array_equal(
        nearest(np.float32([[0, 0], [1, 0], [9, 9]]), centroids), [1, 2, 0]
    )


def test_kmeans_refuses():
    points = np.ones((3, 2))
    assert refusal(kmeans, points, 0) == "k must be an integer in 1..65536, got 0; correct it"
    assert refusal(kmeans, points, 1, seed=-1) == (
        "seed must be an integer in 0..9223372036854775807, got -1; correct it"
    )
    assert refusal(kmeans, points, 1, iterations=0) == (
        "iterations must be an integer in 1..10000, got 0; correct it"
    )
    assert refusal(kmeans, points, 1, tolerance=np.nan) == (
        "tolerance must be >= 0, got nan; 0 stops when nothing changes"
    )
    for wrong, got in (
        (np.ones(3), "float64 of shape (3,)"),
        (np.ones((0, 2)), "float64 of shape (0, 2)"),
        (np.ones((3, 2), int), "int64 of shape (3, 2)"),
    ):
        assert refusal(kmeans, wrong, 1) == (
            f"points must be floats of shape (N, d), at least one, got {got}; reshape or cast them"
        )
    assert refusal(kmeans, [[0.0, 1.0], [2.0, 1e39]], 1) == (
        "points must be finite, got inf in row 1, column 1; leave it out"
    )
    assert refusal(kmeans, points, 1, weights=[1.0]) == (
        "weights must be of shape (3,), got (1,); give each point one"
    )
    assert refusal(kmeans, points, 1, weights=[0.0, 0.0, 0.0]) == (
        "weights must be finite and >= 0, and one above 0, got 0.0..0.0; leave them out for equal "
        "ones"
    )
    assert refusal(nearest, points, np.ones((1, 3))) == (
        "points and centroids must have the same dimensions, got 2 and 3; use the centroids of "
        "these points"
    )
    assert refusal(nearest, points, [[np.nan, 0.0]]) == (
        "centroids must be finite, got nan in row 0, column 0; leave it out"
    )
