"""lloyd_max, NF4 and LloydMaxConfig: golden figures, odd weights, and every refusal."""

import re

import numpy as np
import pytest

from quant.base.config import ScaleWarning
from quant.numerics import lloyd_max_1d as module
from quant.numerics.grid import CodebookGrid
from quant.numerics.lloyd_max_1d import NF4, lloyd_max
from quant.quantizers.lloyd_max import LloydMaxConfig
from tests.quantizers.common import hessian_of, refusal

pytestmark = pytest.mark.kernels


def mean_error(x, centroids):
    codes = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, x)
    return np.mean((x - centroids[codes]) ** 2)


def test_nf4_is_the_published_table():
    published = [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]  # fmt: skip
    np.testing.assert_allclose(NF4, published, rtol=0, atol=1e-6)
    assert NF4[7] == 0
    assert not NF4.flags.writeable


def test_the_optimum_for_the_normal_distribution_is_the_published_one():
    # Max, 1960: four levels for the normal distribution; here from its quantiles
    quantile = module.NormalDist().inv_cdf
    x = np.array([quantile((i + 0.5) / 4000) for i in range(4000)])
    np.testing.assert_allclose(lloyd_max(x, 4), [-1.510, -0.4528, 0.4528, 1.510], atol=2e-3)


@pytest.mark.parametrize("k", [4, 16])
def test_no_worse_than_kmeans1d(rng, k):
    kmeans1d = pytest.importorskip("kmeans1d", reason="needs kmeans1d, a peer")
    x = rng.standard_t(5, 1000)
    peer = np.array(kmeans1d.cluster(x, k).centroids)
    assert mean_error(x, lloyd_max(x, k)) <= mean_error(x, peer) * (1 + 1e-12)


@pytest.mark.parametrize("k", [4, 16])
def test_over_cells_it_is_nearly_the_optimum(rng, monkeypatch, k):
    x = rng.standard_t(5, 2000)
    best = mean_error(x, lloyd_max(x, k))
    monkeypatch.setattr(module, "MAX_CELLS", 1000)
    assert best <= mean_error(x, lloyd_max(x, k)) * (1 + 1e-12)
    assert mean_error(x, lloyd_max(x, k)) < best * 1.001


def test_cells_are_more_than_values_whatever_the_numbers(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 1000)
    # a gap that dwarfs all others, and a weight that dwarfs all others
    x = np.append(np.arange(2000.0), 1e30)
    weights = np.append(1.0, np.full(2000, 1e-12))
    cells = module.cells_of(x, weights)
    assert 256 < len(cells) <= 1000
    assert lloyd_max(x, 2)[1] == pytest.approx(1e30)


def test_an_outlier_takes_one_value_and_spoils_no_other(rng):
    x = rng.standard_normal(1000)
    with_it = lloyd_max(np.append(x, 1e5), 9)
    np.testing.assert_allclose(with_it[:8], lloyd_max(x, 8), atol=1e-6)
    assert with_it[8] == pytest.approx(1e5)


def test_an_offset_moves_the_values_alone(rng):
    x = np.round(rng.standard_normal(500) * 4096) / 4096
    np.testing.assert_allclose(lloyd_max(x + 1e6, 8) - 1e6, lloyd_max(x, 8), atol=1e-8)


def test_weights_that_are_nothing_beside_others_do_not_count():
    np.testing.assert_array_equal(lloyd_max([1.0, 2.0, 3.0], 1, weights=[1, 1e-40, 0]), [1.0])


def test_lloyd_max_refuses():
    assert refusal(lloyd_max, [1.0], 0) == "k must be an integer in 1..256, got 0; correct it"
    assert refusal(lloyd_max, [1.0], 2, method="best") == (
        "method must be one of exact, iterative, got 'best'; correct it"
    )
    assert refusal(lloyd_max, [1, 2], 2) == (
        "values must be floats, at least one, got int64 of shape (2,); cast them"
    )
    assert refusal(lloyd_max, np.zeros(0), 2) == (
        "values must be floats, at least one, got float64 of shape (0,); cast them"
    )
    assert refusal(lloyd_max, [0.0, np.nan], 2) == (
        "values must be finite in float32, got nan at position 1; leave it out"
    )
    assert refusal(lloyd_max, [[0.0], [1e200]], 2) == (
        "values must be finite in float32, got 1e+200 at position 1; leave it out"
    )
    assert refusal(lloyd_max, [0.0, 1.0], 2, weights=[1.0]) == (
        "weights must be of shape (2,), as the values are, got (1,); give each value one"
    )
    for weights, got in (
        ([-1.0, 1.0], "-1.0..1.0"),
        ([0.0, 0.0], "0.0..0.0"),
        ([np.nan, 1.0], "nan..nan"),
    ):
        assert refusal(lloyd_max, [0.0, 1.0], 2, weights=weights) == (
            f"weights must be finite and >= 0, and one above 0, got {got}; leave them out for "
            "equal ones"
        )


@pytest.mark.parametrize("scale", ["absmax", "rms", "none"])
@pytest.mark.parametrize(
    "weight",
    [np.zeros((2, 3)), np.full((2, 3), 0.7), [[-0.3]], [[0.0]], np.array([[1.5], [0], [-1e-5]])],
    ids=["zeros", "constant", "1 x 1", "1 x 1 zero", "one column"],
)
def test_odd_weights_are_exact(weight, scale):
    weight = np.float32(weight)
    back = LloydMaxConfig(k=4, scale=scale).encode(weight).dequantize()
    np.testing.assert_array_equal(back, weight)


def test_groups_are_scaled_each_and_zeros_among_them_stay():
    weight = np.float32([[1, -1, 0, 0, 64], [0, 0, 0.25, 0.25, 0]])
    q = LloydMaxConfig(k=3, group_size=2, scale_dtype="float16").encode(weight)
    np.testing.assert_array_equal(q.arrays["scales"], [[1, 0, 64], [0, 0.25, 0]])
    assert q.arrays["scales"].dtype == np.float16
    np.testing.assert_array_equal(q.dequantize(), weight)
    assert q.code_bits == 1  # -1 and 1 are all there is
    assert q.nbytes == 2 + 2 * 4 + 6 * 2


def test_nf4_stores_its_scales_alone(rng):
    weight = rng.standard_normal((4, 64)).astype(np.float32)
    quantizer = LloydMaxConfig(table="nf4", scale="absmax", group_size=32)
    q = quantizer.encode(weight)
    assert q.arrays.keys() == {"scales"}
    assert q.nbytes == 4 * 64 // 2 + 4 * 2 * 4
    largest = np.abs(weight.reshape(4, 2, 32)).max(axis=2, keepdims=True)
    levels = NF4 * largest[..., None]
    gaps = np.abs(weight.reshape(4, 2, 32)[..., None] - levels)
    np.testing.assert_array_equal(q.codes.reshape(4, 2, 32), gaps.argmin(axis=-1))
    fitted = LloydMaxConfig(group_size=32).encode(weight)
    assert np.square(fitted.dequantize() - weight).sum() < np.square(q.dequantize() - weight).sum()


def test_column_weights_are_what_errors_count(rng):
    weight = rng.standard_normal((8, 32)).astype(np.float32)
    column_weights = np.where(np.arange(32) < 4, 100.0, 1.0)
    quantizer = LloydMaxConfig(k=4, scale="none")
    errors = [
        np.sum(
            column_weights
            * (quantizer.encode(weight, column_weights=weights).dequantize() - weight) ** 2
        )
        for weights in (column_weights, None)
    ]
    assert errors[0] < 0.9 * errors[1]
    each = quantizer.fit(weight, column_weights=np.broadcast_to(column_weights, weight.shape))
    column = quantizer.fit(weight, column_weights=column_weights)
    np.testing.assert_array_equal(each.codebook, column.codebook)


def test_configurations_refuse():
    assert refusal(LloydMaxConfig, k=257) == "k must be an integer in 1..256, got 257; correct it"
    assert refusal(LloydMaxConfig, table="nf3") == (
        "table must be one of lloyd, nf4, got 'nf3'; correct it"
    )
    assert refusal(LloydMaxConfig, method="") == (
        "method must be one of exact, iterative, got ''; correct it"
    )
    assert refusal(LloydMaxConfig, scale="std") == (
        "scale must be one of rms, absmax, none, got 'std'; correct it"
    )
    assert refusal(LloydMaxConfig, scale_dtype="float64") == (
        "scale_dtype must be one of float16, float32, got 'float64'; correct it"
    )
    assert refusal(LloydMaxConfig, group_size=0) == (
        "group_size must be an integer in 1..2147483647, got 0; correct it"
    )
    assert refusal(LloydMaxConfig, table="nf4", scale="rms") == (
        "nf4 has k=16 and scale='absmax', got k=16 and scale='rms'; correct them"
    )
    assert refusal(LloydMaxConfig, scale="none", group_size=8) == (
        "group_size goes with a scale, got 8 with scale='none'; leave it out"
    )


def test_the_quantizer_refuses():
    assert refusal(LloydMaxConfig().encode, np.ones((2, 3)), hessian_of(3)) == (
        "a lloyd-max quantizer does not use hessian; leave it out"
    )
    encode = LloydMaxConfig(k=2, scale_dtype="float16").encode
    for weight, got in (([[1.0], [1e6]], "1e+06"), ([[1.0], [1e-9]], "1e-09")):
        text = f"scales must fit float16, got {got} in row 1, group 0"
        fit = LloydMaxConfig(k=2, scale_dtype="float16").fit
        assert refusal(fit, weight) == f"{text}; use scale_dtype='float32'"
        with pytest.warns(ScaleWarning, match=f"^{re.escape(text)}; float32 was used$"):
            q = encode(weight)
        assert q.config.scale_dtype == q.arrays["scales"].dtype == "float32"
        np.testing.assert_allclose(q.matrix(), weight, rtol=1e-6)
    assert refusal(encode, np.ones((2, 3)), column_weights=np.ones(2)) == (
        "column_weights must be of shape (3,) or (2, 3), got (2,); give one for each column"
    )
    assert refusal(encode, np.ones((1, 2)), column_weights=[0, -1]) == (
        "column_weights must be finite and >= 0, and one above 0, got -1.0..0.0; check that "
        "the calibration reached this layer"
    )
    none = LloydMaxConfig(k=2, scale="none")
    scaled = CodebookGrid(codebook=np.ones(1, np.float32), scales=2 * NF4[-1:, None], group_size=9)
    assert refusal(none.encode, np.ones((2, 3)), fitted=scaled) == (
        f"fitted must be a grid of {none} for a matrix of shape (2, 3), got CodebookGrid of other "
        "settings or another shape; use what fit returns"
    )


def test_what_comes_out_of_a_file_is_checked():
    config = LloydMaxConfig(k=3, group_size=2)
    codes, shape = np.zeros((2, 3), np.uint8), (2, 3)
    arrays = {"codebook": np.float32([-1, 0, 1]), "scales": np.ones((2, 2), np.float32)}
    config.check(codes, arrays, shape)

    def why(codes=codes, **changed):
        return refusal(config.check, codes, arrays | changed, shape)

    end = "; the file is damaged"
    assert why(more=codes) == f"arrays must be codebook, scales, got codebook, more, scales{end}"
    assert refusal(config.check, codes, {}, shape) == (
        f"arrays must be codebook, scales, got none{end}"
    )
    assert why(scales=np.ones((2, 2))) == (
        f"scales must be float32 of shape (2, 2), got float64 of shape (2, 2){end}"
    )
    assert why(scales=np.ones((2, 1), np.float32)) == (
        f"scales must be float32 of shape (2, 2), got float32 of shape (2, 1){end}"
    )
    assert why(scales=np.full((2, 2), -1, np.float32)) == (
        f"scales must be finite and >= 0, got -1.0..-1.0{end}"
    )
    assert why(scales=np.full((2, 2), np.inf, np.float32)) == (
        f"scales must be finite and >= 0, got inf..inf{end}"
    )
    for wrong in (np.zeros(4, np.float32), np.zeros(0, np.float32), np.zeros((1, 1), np.float32)):
        assert why(codebook=wrong) == (
            f"codebook must be float32 of shape (1..3), got float32 of shape {wrong.shape}{end}"
        )
    assert why(codebook=np.zeros(3)) == (
        f"codebook must be float32 of shape (1..3), got float64 of shape (3,){end}"
    )
    assert why(codebook=np.float32([0, np.nan, 1])) == (
        f"weights must be finite in float32, got nan{end}"
    )
    assert why(codebook=np.float32([0, 1e38]), scales=np.full((2, 2), 9, np.float32)) == (
        f"weights must be finite in float32, got 9e+38{end}"
    )
    assert why(codebook=np.float32([0, 2, 1])) == (
        f"codebook must be ascending, got 0.0..1.0 with a step down{end}"
    )
    assert why(codes.astype(np.int8)) == (
        f"codes must be uint8 of shape (2, 3), got int8 of shape (2, 3){end}"
    )
    assert why(codes[:1]) == f"codes must be uint8 of shape (2, 3), got uint8 of shape (1, 3){end}"
    assert why(codes + np.uint8(3)) == (
        f"codes must be below 3, the size of the codebook, got 3{end}"
    )
