"""What holds for every codebook: the optimum by brute force, and the level nearest to a weight."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant.numerics.kmeans import kmeans, nearest
from quant.numerics.lloyd_max_1d import lloyd_max
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig

pytestmark = pytest.mark.kernels

# sixteenths: sums and squares of a few are exact, so that equal values stay equal
sixteenths = st.integers(-64, 64).map(lambda n: n / 16)
vectors = hnp.arrays(np.float64, st.integers(1, 9), elements=sixteenths)
counts = st.lists(st.integers(1, 5), min_size=9, max_size=9)
sizes = st.tuples(st.integers(1, 5), st.integers(1, 9))
matrices = hnp.arrays(np.float32, sizes, elements=st.floats(-4, 4, width=32))
lloyd_configs = st.builds(
    LloydMaxConfig,
    k=st.integers(1, 8),
    scale=st.sampled_from(["absmax", "rms", "none"]),
    scale_dtype=st.just("float32"),
    method=st.sampled_from(["exact", "iterative"]),
)
product_configs = st.builds(
    ProductConfig,
    dim=st.integers(1, 5),
    k=st.integers(2, 8),
    shared=st.booleans(),
    scale=st.sampled_from(["absmax", "rms", "none"]),
    seed=st.integers(0, 3),
)


def error(x, centroids, weights=1.0):
    """Weighted squared error of each number's nearest value."""
    gaps = np.min((np.asarray(x)[:, None] - centroids) ** 2, axis=1)
    return float(np.sum(weights * gaps))


@given(vectors, counts, st.integers(1, 4))
def test_exact_is_the_best_of_all_partitions(x, weights, k):
    weights = np.array(weights[: len(x)], float)
    order = np.argsort(x)
    x, weights = x[order], weights[order]
    parts = min(k, len(x))
    best = np.inf
    for cuts in combinations(range(1, len(x)), parts - 1):
        edges = [0, *cuts, len(x)]
        spans = [slice(a, b) for a, b in pairwise(edges)]
        means = np.array([np.average(x[s], weights=weights[s]) for s in spans])
        best = min(best, error(x, means, weights))
    assert error(x, lloyd_max(x, k, weights=weights), weights) == pytest.approx(best, abs=1e-9)


@given(vectors, st.integers(1, 6))
def test_exact_is_never_worse_than_iterative(x, k):
    exact, iterative = (lloyd_max(x, k, method=name) for name in ("exact", "iterative"))
    assert error(x, exact) <= error(x, iterative) + 1e-9


@given(vectors, st.integers(1, 6), st.randoms(use_true_random=False))
def test_the_order_of_numbers_does_not_matter(x, k, random):
    shuffled = x.tolist()
    random.shuffle(shuffled)
    np.testing.assert_array_equal(lloyd_max(x, k), lloyd_max(np.array(shuffled), k))


@given(vectors, counts, st.integers(1, 6))
def test_a_weight_is_a_repetition(x, weights, k):
    weights = np.array(weights[: len(x)])
    repeated = np.repeat(x, weights)
    weighted, plain = lloyd_max(x, k, weights=weights), lloyd_max(repeated, k)
    assert error(repeated, weighted) == pytest.approx(error(repeated, plain), abs=1e-9)


@given(vectors, st.integers(0, 3))
def test_enough_values_are_the_numbers_themselves(x, more):
    different = np.unique(x)
    np.testing.assert_array_equal(lloyd_max(x, len(different) + more), different)


@given(hnp.arrays(np.float32, sizes, elements=sixteenths), st.integers(0, 3), st.integers(0, 9))
def test_enough_centroids_are_the_points_themselves(points, more, seed):
    different = np.unique(points, axis=0)
    centroids = kmeans(points, len(different) + more, seed=seed)
    np.testing.assert_array_equal(np.unique(centroids, axis=0), different)
    assert len(centroids) == len(different)


@given(hnp.arrays(np.float32, sizes, elements=sixteenths), st.integers(1, 6), st.integers(0, 9))
def test_nearest_is_the_first_nearest_alone_and_among_others(points, k, seed):
    centroids = np.random.default_rng(seed).integers(-9, 9, (k, points.shape[1])) / np.float32(4)
    gaps = ((points[:, None] - centroids) ** 2).sum(axis=-1)
    indices = nearest(points, centroids)
    np.testing.assert_array_equal(indices, gaps.argmin(axis=1))
    alone = [nearest(points[i : i + 1], centroids)[0] for i in range(len(points))]
    np.testing.assert_array_equal(indices, alone)


@given(matrices, lloyd_configs | product_configs)
def test_each_code_is_that_of_the_nearest_level(weight, config):
    q = config.encode(weight)
    error_of = np.square(q.dequantize().astype(float) - weight)
    rows, width = config.codes_shape(weight.shape)
    n = min(8, q.arrays["codebook"].shape[0 if config.kind == "lloyd-max" else -2])
    for code in range(n):
        others = np.full((rows, width), code, np.uint8)
        other = np.square(config.decode(others, q.arrays, weight.shape).astype(float) - weight)
        step = getattr(config, "dim", 1)
        starts = range(0, weight.shape[1], step)
        nearest_error, other_error = (np.add.reduceat(e, starts, axis=1) for e in (error_of, other))
        # of quotients, the error is least but for rounding
        assert (nearest_error <= other_error * (1 + 1e-4) + 1e-9).all()


@given(matrices, lloyd_configs | product_configs)
def test_one_stage_is_its_quantizer(weight, config):
    q, alone = (
        ResidualConfig(stages=(config,)).encode(weight),
        config.encode(weight),
    )
    np.testing.assert_array_equal(q.codes, alone.codes)
    np.testing.assert_array_equal(q.dequantize(), alone.dequantize())
    assert (q.nbytes, q.code_bits) == (alone.nbytes, alone.code_bits)


@given(matrices, st.lists(lloyd_configs | product_configs, min_size=2, max_size=3))
def test_a_further_stage_never_adds_error(weight, configs):
    errors = [
        np.square(ResidualConfig(stages=configs[:n]).encode(weight).dequantize() - weight).sum()
        for n in range(1, len(configs) + 1)
    ]
    for before, after in pairwise(errors):
        assert after <= before * (1 + 1e-4) + 1e-9


@given(matrices, lloyd_configs | product_configs)
def test_rows_of_zeros_are_zeros_again(weight, config):
    weight = weight.copy()
    weight[0] = 0
    if config.scale != "none":
        assert not config.encode(weight).dequantize()[0].any()
