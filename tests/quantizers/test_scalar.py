"""Scalar quantization: golden figures, the clip rules, odd weights; and every refusal."""

import numpy as np
import pytest
import torch

from quant.numerics.clipping import fit_grid, rounded
from quant.numerics.grid import UniformGrid
from quant.quantizers.scalar import (
    ScalarConfig,
    ScalarQuantizer,
    quantize_int6_symmetric,
    quantize_int8_symmetric,
    rtn,
)

pytestmark = pytest.mark.kernels

EVERY = [
    {"per": per, "group_size": 3 if per == "group" else None, "symmetric": symmetric, "clip": clip}
    for per in ("tensor", "row", "column", "group")
    for symmetric in (True, False)
    for clip in ("absmax", "mse", "sd:3")
]


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def error(weight, q, column_weights=1):
    return (column_weights * (weight.astype(np.float64) - q.matrix()) ** 2).sum()


def test_int6_and_int8_reach_the_largest_weight_of_each_row():
    weight = np.array([[3.1, -0.04, 0.06, -3.1], [0, 0, 0, 0], [0, -1, 0.5, 0.25]])
    codes, scales = quantize_int6_symmetric(weight)
    assert codes.dtype == np.int8
    assert codes.tolist() == [[31, 0, 1, -31], [0, 0, 0, 0], [0, -31, 16, 8]]
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(scales, np.float32([3.1, 31, 1]) / np.float32(31))

    codes, scales = quantize_int8_symmetric(torch.tensor(weight))
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[127, -2, 2, -127], [0, 0, 0, 0], [0, -127, 64, 32]]
    np.testing.assert_array_equal(scales, np.float32([3.1, 127, 1]) / np.float32(127))


def test_an_affine_grid_holds_zero_and_both_ends():
    q = ScalarQuantizer(bits=2, symmetric=False).encode(
        np.array([[-1.0, 2.0, 0.0, 0.9], [5, 6, 7, 0]])
    )
    assert q.codes.tolist() == [[0, 3, 1, 2], [2, 3, 3, 0]]
    assert q.arrays["zero_points"].tolist() == [[1], [0]]
    assert q.arrays["scales"].tolist() == [[1], [np.float32(7 / 3)]]
    assert q.dequantize()[0].tolist() == [-1, 2, 0, 1]


def test_sd_clip_is_the_step_that_the_records_use(rng):
    weight = rng.standard_normal((64, 4096)).astype(np.float32) * np.float32(0.02)
    q = rtn(weight)
    assert q.config == ScalarConfig(clip="sd:12.85")
    sd = weight.astype(np.float64).std(axis=1, keepdims=True)
    np.testing.assert_allclose(q.arrays["scales"], 12.85 / 31 * sd, rtol=1e-6)
    share = np.bincount(q.codes.ravel().astype(np.int64) + 31) / weight.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert entropy == pytest.approx(3.33, abs=0.01)  # bits a weight, for normal weights


@pytest.mark.parametrize("per", ["tensor", "row", "column", "group"])
def test_sd_is_that_of_what_shares_a_step(rng, per):
    weight = (rng.standard_normal((6, 10)) + 1).astype(np.float32)
    q = rtn(weight, 4, "sd:3", per, group_size=4 if per == "group" else None)
    wide = weight.astype(np.float64)
    expected = {
        "tensor": wide.std(keepdims=True),
        "row": wide.std(axis=1, keepdims=True),
        "column": wide.std(axis=0, keepdims=True),
        "group": np.stack([wide[:, i : i + 4].std(axis=1) for i in (0, 4, 8)], axis=1),
    }[per]
    np.testing.assert_allclose(q.arrays["scales"], 3 / 7 * expected, rtol=1e-6)


def test_affine_sd_is_about_the_mean(rng):
    weight = rng.normal(3, 0.5, (2, 3000)).astype(np.float32)
    q = rtn(weight, bits=8, clip="sd:4", symmetric=False)
    mean, sd = weight.mean(axis=1), weight.std(axis=1)
    np.testing.assert_allclose(q.arrays["scales"][:, 0], (mean + 4 * sd) / 255, rtol=1e-4)
    assert q.arrays["zero_points"].tolist() == [[0], [0]]  # 0 is held, below all weights


def test_more_bits_err_less_on_normal_weights(rng):
    weight = rng.standard_normal((16, 64)).astype(np.float32)
    for clip in ("absmax", "mse"):
        found = [error(weight, rtn(weight, bits, clip)) for bits in range(2, 9)]
        assert found == sorted(found, reverse=True)


def test_mse_is_near_the_best_step_of_many(rng):
    weight = rng.standard_t(4, (1, 2000)).astype(np.float32)
    for bits in (2, 4, 6):
        found = error(weight, rtn(weight, bits, "mse"))
        most = 2 ** (bits - 1) - 1
        scales = np.abs(weight).max() / most * np.linspace(0.02, 1.05, 4000, dtype=np.float32)
        every = np.clip(np.rint(weight / scales[:, None]), -most, most) * scales[:, None]
        assert found <= 1.002 * ((every - weight.astype(np.float64)) ** 2).sum(axis=1).min()


@pytest.mark.parametrize("outlier", [20.0, -20.0])
def test_affine_mse_leaves_an_outlier_out(rng, outlier):
    """Each end of the range moves by itself: both together would cut what is left."""
    weight = rng.standard_normal((40, 50)).astype(np.float32)
    plain = error(weight, rtn(weight, 3, "mse", "tensor", symmetric=False))
    weight[5, 3] = outlier
    q = rtn(weight, 3, "mse", "tensor", symmetric=False)
    assert error(weight, q) < plain + 18.5**2


def test_hessian_weighs_the_columns(rng):
    weight = rng.standard_normal((8, 100)).astype(np.float32)
    weight[:, 0] = 50
    column_weights = np.ones(100)
    column_weights[0] = 0  # a column that no input reaches
    q = rtn(weight, 3, "hessian", hessian=column_weights)
    assert error(weight, q, column_weights) < 0.1 * error(
        weight, rtn(weight, 3, "mse"), column_weights
    )
    for same in (
        np.diag(column_weights),
        torch.tensor(column_weights),
        torch.diag(torch.tensor(column_weights)).float(),
    ):
        np.testing.assert_array_equal(rtn(weight, 3, "hessian", hessian=same).codes, q.codes)
    like_mse = rtn(weight, 3, "hessian", hessian=np.full(100, 7.0))
    np.testing.assert_array_equal(like_mse.codes, rtn(weight, 3, "mse").codes)
    assert rtn(weight, 3, "hessian", "column", hessian=column_weights).matrix()[0, 0] == 50


def test_a_grid_is_fitted_once_and_used_again(rng):
    weight = rng.standard_normal((4, 10)).astype(np.float32)
    for fields in EVERY:
        quantizer = ScalarQuantizer(**fields)
        q, grid = quantizer.encode(weight), quantizer.fit(weight)
        again = quantizer.encode(weight, grid)
        np.testing.assert_array_equal(q.codes, again.codes)
        other = quantizer.encode(rng.standard_normal((4, 10)), grid)
        np.testing.assert_array_equal(other.arrays["scales"], q.arrays["scales"])
        np.testing.assert_array_equal(quantizer.decode(q), q.dequantize())


def test_a_config_is_given_whole_or_in_part():
    config = ScalarConfig(bits=4, clip="mse")
    assert ScalarQuantizer(config).config is not None
    assert ScalarQuantizer(config, bits=3).config == ScalarConfig(bits=3, clip="mse")
    assert ScalarQuantizer().config == ScalarConfig()


@pytest.mark.parametrize("fields", EVERY)
def test_odd_weights_come_back(fields):
    for zero in (np.zeros((3, 4)), np.zeros((1, 1))):
        q = ScalarQuantizer(**fields).encode(zero)
        np.testing.assert_array_equal(q.dequantize(), 0)
        assert (q.arrays["scales"] == 1).all()
    weight = np.arange(12.0).reshape(3, 4)
    weight[1] = 0
    assert (ScalarQuantizer(**fields).encode(weight).matrix()[1] == 0).all()
    for shape in ((3, 4), (1, 1), (5, 1), (1, 5)):
        for value in (0.1, -3.0):
            alike = np.full(shape, value)
            back = ScalarQuantizer(**fields).encode(alike).dequantize()
            np.testing.assert_allclose(back, alike, rtol=1e-6)


@pytest.mark.parametrize("fields", EVERY)
def test_strides_and_dtypes_do_not_matter(rng, fields):
    weight = rng.standard_normal((4, 10)).astype(np.float16)
    quantizer = ScalarQuantizer(**fields)
    codes = quantizer.encode(weight).codes
    wide = np.zeros((8, 20), np.float64)
    wide[::2, ::2] = weight
    for same in (wide[::2, ::2], np.asfortranarray(weight), torch.tensor(weight).float()):
        np.testing.assert_array_equal(quantizer.encode(same).codes, codes)
    turned = quantizer.encode(weight.T, transposed=True)
    np.testing.assert_array_equal(turned.codes, codes)
    assert turned.dequantize().shape == (10, 4)


def test_float16_steps_are_used_as_they_are_stored(rng):
    weight = (rng.standard_normal((6, 40)) * 0.01).astype(np.float32)
    weight[2] = 1e-12  # its step is 0 in float16
    weight[3] = 0
    for symmetric in (True, False):
        q = rtn(weight, 4, "mse", scale_dtype="float16", symmetric=symmetric)
        scales = q.arrays["scales"]
        assert scales.dtype == np.float16
        zeros = q.arrays.get("zero_points", np.zeros_like(scales)).astype(np.float32)
        np.testing.assert_array_equal(q.matrix(), (q.codes - zeros) * scales.astype(np.float32))
        assert scales[2, 0] == np.finfo(np.float16).smallest_subnormal
        assert (q.matrix()[2:4] == 0).all()
    assert refusal(rtn, np.full((1, 2), 1e7), scale_dtype="float16") == (
        "scales must be finite as float16, got 3.226e+05; are these weights?"
    )


def test_weights_at_the_ends_of_float32(rng):
    tiny = np.finfo(np.float32).smallest_subnormal
    back = ScalarQuantizer().encode(np.array([[tiny, -tiny, 0]])).matrix()
    assert back.tolist() == [[tiny, -tiny, 0]]
    large = np.finfo(np.float32).max / 2
    back = ScalarQuantizer(bits=8).encode(np.array([[large, -large, 0]])).matrix()
    np.testing.assert_allclose(back, [[large, -large, 0]], rtol=1e-6)
    assert refusal(rtn, np.array([[3.4e38, 0]]), 6, "sd:1000") == (
        "scales must be finite as float32, got 5.484e+39; are these weights?"
    )
    assert refusal(rtn, np.array([[3.4e38, 0]]), 6, "sd:31") == (
        "levels must be finite, got a scale of 1.7e+38; it is too large"
    )


def test_a_hessian_of_another_kind_is_refused():
    weight = np.ones((2, 3))
    assert refusal(rtn, weight, clip="hessian") == (
        "a hessian goes with clip='hessian', got none; give both or neither"
    )
    assert refusal(rtn, weight, clip="mse", hessian=np.ones(3)) == (
        "a hessian goes with clip='hessian', got one with clip='mse'; give both or neither"
    )
    for wrong in (np.ones(2), np.ones((2, 2)), np.ones((3, 2)), np.ones((3, 3, 3))):
        assert refusal(rtn, weight, clip="hessian", hessian=wrong) == (
            f"hessian must be of shape (3, 3) or its diagonal, got shape {wrong.shape}; is it of "
            "another layer?"
        )
    for wrong, shown in (
        ([0.0, 0, 0], "0.0..0.0"),
        ([-1.0, 1, 1], "-1.0..1.0"),
        ([np.nan, 1, 1], "nan..nan"),
        ([np.inf, 1, 1], "1.0..inf"),
    ):
        assert refusal(rtn, weight, clip="hessian", hessian=np.array(wrong)) == (
            "the Hessian's diagonal must be finite, >= 0 and somewhere > 0, got "
            f"{shown}; did the calibration reach this layer?"
        )
    assert refusal(rtn, weight, clip="hessian", hessian=[1, 2, 3]) == (
        "hessian must be of float16, bfloat16, float32, float64, got int64; dequantize or cast it "
        "first"
    )


def test_a_grid_of_another_kind_is_refused(rng):
    weight = rng.standard_normal((4, 10))
    others = [
        (ScalarConfig(bits=5), ScalarConfig(bits=6)),
        (ScalarConfig(per="row"), ScalarConfig(per="tensor")),
        (ScalarConfig(symmetric=False), ScalarConfig()),
        (ScalarConfig(per="group", group_size=6), ScalarConfig(per="group", group_size=7)),
        (ScalarConfig(), ScalarConfig(scale_dtype="float16")),
    ]
    for fitting, using in others:
        grid = ScalarQuantizer(fitting).fit(weight)
        assert refusal(ScalarQuantizer(using).encode, weight, grid) == (
            "fitted must be a grid of this configuration and shape, got codes "
            f"{grid.lowest}..{grid.highest} and scales of shape {grid.scales.shape} for {using} "
            "and (4, 10); fit it with this quantizer"
        )
    scales = np.ones((4, 1), np.float32)
    moved = UniformGrid(scales=scales, zero_points=scales, lowest=-31, highest=31, group_size=10)
    assert refusal(ScalarQuantizer().encode, weight, moved).startswith("fitted must be a grid")
    whole = UniformGrid(
        scales=scales, zero_points=0 * scales, lowest=-31, highest=31, group_size=999
    )
    assert ScalarQuantizer().encode(weight, whole).codes.shape == (4, 10)


def damaged(config, **changed):
    q = ScalarQuantizer(config).encode(np.arange(6.0).reshape(2, 3))
    codes = changed.pop("codes", q.codes)
    arrays = {name: its for name, its in (dict(q.arrays) | changed).items() if its is not None}
    return refusal(config.check, codes, arrays, (2, 3))


def test_what_a_file_holds_is_checked():
    config, affine = ScalarConfig(), ScalarConfig(symmetric=False)
    for its, wrong in (
        (config, np.zeros((2, 3), np.uint8)),
        (affine, np.zeros((2, 3), np.int8)),
        (config, np.zeros((3, 2), np.int8)),
        (config, np.zeros((2, 3))),
    ):
        dtype = "int8" if its is config else "uint8"
        assert damaged(its, codes=wrong) == (
            f"codes must be {dtype} of shape (2, 3), got {wrong.dtype} of shape {wrong.shape}; the "
            "file is damaged"
        )
    empty = np.zeros((0, 3), np.int8)
    assert refusal(config.check, empty, {}, (0, 3)) == (
        "codes must be int8 of shape (0, 3), got int8 of shape (0, 3); the file is damaged"
    )
    for value in (-32, 32):
        wrong = np.full((2, 3), value, np.int8)
        assert damaged(config, codes=wrong) == (
            f"codes must be in -31..31, got {value}..{value}; the file is damaged"
        )
    assert damaged(affine, codes=np.full((2, 3), 64, np.uint8)) == (
        "codes must be in 0..63, got 64..64; the file is damaged"
    )
    assert damaged(config, scales=None) == (
        "arrays must be {'scales': ('float32', (2, 1))}, got {}; the file is damaged"
    )
    assert damaged(config, scales=np.ones((2, 1))) == (
        "arrays must be {'scales': ('float32', (2, 1))}, got {'scales': ('float64', (2, 1))}; the "
        "file is damaged"
    )
    assert damaged(affine, zero_points=np.zeros((1, 1), np.uint8)) == (
        "arrays must be {'scales': ('float32', (2, 1)), 'zero_points': ('uint8', (2, 1))}, got "
        "{'scales': ('float32', (2, 1)), 'zero_points': ('uint8', (1, 1))}; the file is damaged"
    )
    assert damaged(affine, zero_points=np.full((2, 1), 64, np.uint8)) == (
        "zero_points must be in 0..63, got 64; the file is damaged"
    )
    assert damaged(config, scales=np.full((2, 1), np.nan, np.float32)) == (
        "scales must be finite and > 0, got nan..nan; give a group of zeros a 1"
    )
    assert damaged(config, scales=np.full((2, 1), 3e38, np.float32)) == (
        "levels must be finite, got a scale of 3e+38; it is too large"
    )


@pytest.mark.parametrize("weight", [np.zeros(3), np.zeros((0, 3)), np.array([[1, np.nan]])])
def test_what_is_no_weight_is_refused(weight):
    assert refusal(rtn, weight).startswith("weight must be ")
    assert refusal(ScalarQuantizer().fit, weight).startswith("weight must be ")


def test_steps_are_rounded_never_to_zero():
    scales = np.array([[0.0, 1e-9, 1 / 3]])
    assert rounded(scales, "float16").tolist() == [[2.0**-24, 2.0**-24, np.float16(1 / 3)]]
    assert rounded(scales, "float32").tolist() == [[2.0**-149, np.float32(1e-9), np.float32(1 / 3)]]


def test_a_part_is_fitted_as_in_the_whole(rng):
    """What GPTQ does where groups are fitted as it goes."""
    matrix = rng.standard_normal((4, 12)).astype(np.float32)
    config = ScalarConfig(bits=3, per="group", group_size=4, clip="mse")
    whole, part = config.fit(matrix), config.fit(np.ascontiguousarray(matrix[:, 4:8]))
    np.testing.assert_array_equal(part.scales[:, 0], whole.scales[:, 1])
    rows = fit_grid(matrix, 4, 4, bits=3, symmetric=True, clip="mse", scale_dtype="float32")
    np.testing.assert_array_equal(rows.scales, whole.scales)
