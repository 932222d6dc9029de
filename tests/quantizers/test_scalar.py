"""Scalar quantization: golden figures, the clip rules, odd weights; and every refusal."""

import numpy as np
import pytest
import torch

from quant.base.config import ScaleWarning
from quant.numerics.clipping import fit_uniform, round_scales
from quant.numerics.grid import UniformGrid
from quant.numerics.hessian import Hessian
from quant.quantizers.scalar import (
    ScalarConfig,
    quantize_int6_symmetric,
    quantize_int8_symmetric,
    rtn,
)
from tests.quantizers.common import refusal

pytestmark = pytest.mark.kernels


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
    q = ScalarConfig(bits=2, symmetric=False).encode(
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
    rms = np.sqrt(np.square(weight, dtype=np.float64).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(q.arrays["scales"], 12.85 / 31 * rms, rtol=1e-6)
    share = np.bincount(q.codes.ravel().astype(np.int64) + 31) / weight.size
    entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
    assert entropy == pytest.approx(3.33, abs=0.01)  # bits a weight, for normal weights


@pytest.mark.parametrize("per", ["tensor", "row", "column", "group"])
def test_sd_is_the_root_mean_square_of_what_shares_a_scale(rng, per):
    weight = rng.standard_normal((60, 100)).astype(np.float32)
    q = rtn(weight, 6, "sd:6", per, group_size=40 if per == "group" else None)
    squares = np.square(weight, dtype=np.float64)
    expected = {
        "tensor": squares.mean(keepdims=True),
        "row": squares.mean(axis=1, keepdims=True),
        "column": squares.mean(axis=0, keepdims=True),
        "group": np.stack([squares[:, i : i + 40].mean(axis=1) for i in (0, 40, 80)], axis=1),
    }[per]
    np.testing.assert_allclose(q.arrays["scales"], 6 / 31 * np.sqrt(expected), rtol=1e-6)
    assert q.config.clipped(weight, q.arrays) == 0


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("clip", ["sd:2", "sd:12.85", "sd:14", "sd:20", "sd:200"])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_sd_never_loses_the_mass_of_a_row(rng, symmetric, clip, bits):
    """Rows about a mean, of two magnitudes, with one large weight: none is made smaller."""
    n = 512
    rows = [
        1 + 0.01 * rng.standard_normal(n),
        -1 + 0.1 * rng.standard_normal(n),
        np.where(rng.random(n) < 0.5, 1, -1),
        np.eye(1, n)[0],
        0.02 * rng.standard_normal(n) + 3 * np.eye(1, n, 7)[0],
    ]
    weight = np.array(rows, np.float32)
    q = rtn(weight, bits, clip, symmetric=symmetric)
    absmax = rtn(weight, bits, "absmax", symmetric=symmetric)
    for row, levels, largest in zip(weight.astype(float), q.matrix(), absmax.matrix(), strict=True):
        kept = levels @ row / (row @ row)
        is_no_worse = ((levels - row) ** 2).sum() <= ((largest - row) ** 2).sum()
        assert is_no_worse or abs(kept - 1) < 1 / 24
        assert abs(kept - 1) < 0.1


def test_sd_clips_where_that_costs_less():
    """Of many weights a few may be cut: a wider range would make all others coarser."""
    weight = np.random.default_rng(0).standard_normal((8, 4096)).astype(np.float32)
    q = rtn(weight, 4, "sd:3")
    rms = np.sqrt(np.square(weight, dtype=np.float64).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(q.arrays["scales"], 3 / 7 * rms, rtol=1e-6)
    beyond = (np.abs(weight) > 7.5 * q.arrays["scales"]).mean()
    assert q.config.clipped(weight, q.arrays) == beyond > 0
    assert error(weight, q) < error(weight, rtn(weight, 4, "absmax"))


def test_affine_sd_is_about_the_mean(rng):
    weight = rng.normal(3, 0.5, (2, 3000)).astype(np.float32)
    q = rtn(weight, bits=8, clip="sd:4", symmetric=False)
    mean, sd = weight.mean(axis=1), weight.std(axis=1)
    np.testing.assert_allclose(q.arrays["scales"][:, 0], (mean + 4 * sd) / 255, rtol=1e-4)
    assert q.arrays["zero_points"].tolist() == [[0], [0]]  # 0 is held, below all weights


def test_more_bits_err_less_on_normal_weights(rng):
    weight = rng.standard_normal((16, 64)).astype(np.float32)
    for clip in ("absmax", "mse"):
        errors = [error(weight, rtn(weight, bits, clip)) for bits in range(2, 9)]
        assert errors == sorted(errors, reverse=True)


def test_mse_is_near_the_best_step_of_many(rng):
    weight = rng.standard_t(4, (1, 2000)).astype(np.float32)
    for bits in (2, 4, 6):
        best = error(weight, rtn(weight, bits, "mse"))
        most = 2 ** (bits - 1) - 1
        scales = np.abs(weight).max() / most * np.linspace(0.02, 1.05, 4000, dtype=np.float32)
        every = np.clip(np.rint(weight / scales[:, None]), -most, most) * scales[:, None]
        assert best <= 1.002 * ((every - weight.astype(np.float64)) ** 2).sum(axis=1).min()


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
    q = rtn(weight, 3, "hessian", column_weights=column_weights)
    assert error(weight, q, column_weights) < 0.1 * error(
        weight, rtn(weight, 3, "mse"), column_weights
    )
    calibration = Hessian(100)
    calibration.add(np.diag(np.sqrt(100 * column_weights)))
    diagonal = np.diag(column_weights)
    for same in (diagonal, torch.tensor(diagonal), torch.tensor(diagonal).float(), calibration):
        np.testing.assert_array_equal(rtn(weight, 3, "hessian", hessian=same).codes, q.codes)
    like_mse = rtn(weight, 3, "hessian", column_weights=np.full(100, 7.0))
    np.testing.assert_array_equal(like_mse.codes, rtn(weight, 3, "mse").codes)
    assert rtn(weight, 3, "hessian", "column", column_weights=column_weights).matrix()[0, 0] == 50


def test_float16_scales_are_used_as_they_are_stored(rng):
    weight = (rng.standard_normal((6, 40)) * 0.01).astype(np.float32)
    weight[3] = 0
    for symmetric in (True, False):
        q = rtn(weight, 4, "mse", scale_dtype="float16", symmetric=symmetric)
        scales = q.arrays["scales"]
        assert scales.dtype == np.float16
        zeros = q.arrays.get("zero_points", np.zeros_like(scales)).astype(np.float32)
        np.testing.assert_array_equal(q.matrix(), (q.codes - zeros) * scales.astype(np.float32))
        assert (q.matrix()[3] == 0).all()


@pytest.mark.parametrize("size", [1e-12, 1e-8, 1e-6, 1e7])
@pytest.mark.parametrize("clip", ["absmax", "mse", "sd:12.85"])
def test_scales_that_float16_cannot_hold_are_float32(rng, size, clip):
    weight = rng.standard_normal((6, 40)).astype(np.float32)
    weight[2] *= size
    with pytest.warns(ScaleWarning, match=r"^scales must .* float16, got .*; float32 was used$"):
        q = rtn(weight, 5, clip, scale_dtype="float16")
    assert q.config == ScalarConfig(bits=5, clip=clip)
    np.testing.assert_array_equal(q.matrix(), rtn(weight, 5, clip).matrix())
    assert refusal(ScalarConfig(bits=5, clip=clip, scale_dtype="float16").fit, weight).startswith(
        "scales must "
    )


def test_weights_at_the_ends_of_float32(rng):
    tiny = np.finfo(np.float32).smallest_subnormal
    back = ScalarConfig().encode(np.array([[tiny, -tiny, 0]])).matrix()
    assert back.tolist() == [[tiny, -tiny, 0]]
    large = np.finfo(np.float32).max / 2
    back = ScalarConfig(bits=8).encode(np.array([[large, -large, 0]])).matrix()
    np.testing.assert_allclose(back, [[large, -large, 0]], rtol=1e-6)
    assert refusal(rtn, np.array([[3.4e38, 0]]), 6, "sd:1000") == (
        "scales must be finite as float32, got 7.755e+39; look for outliers in the weight"
    )
    back = rtn(np.array([[3.4e38, 0]]), 6, "sd:31").matrix()  # as absmax: 1.41 of it is too large
    np.testing.assert_allclose(back, [[3.4e38, 0]], rtol=1e-6)


def test_a_hessian_of_another_kind_is_refused():
    weight = np.ones((2, 3))
    assert refusal(rtn, weight, clip="hessian") == (
        "clip='hessian' needs a hessian or column_weights, got neither; give one of them"
    )
    assert refusal(rtn, weight, clip="hessian", hessian=np.eye(3), column_weights=np.ones(3)) == (
        "clip='hessian' needs a hessian or column_weights, got both; give one of them"
    )
    for name, value in (("hessian", np.eye(3)), ("column_weights", np.ones(3))):
        assert refusal(rtn, weight, clip="mse", **{name: value}) == (
            f"{name} goes with clip='hessian', got it with clip='mse'; leave it out"
        )
    for wrong in (np.ones(2), np.ones((2, 2)), np.ones((3, 2)), np.ones((3, 3, 3))):
        assert refusal(rtn, weight, clip="hessian", hessian=wrong) == (
            f"hessian must have shape (3, 3) for a weight of 3 columns, got {wrong.shape}; use "
            "that of this layer, and transposed=True for a Conv1D"
        )
        assert refusal(rtn, weight, clip="hessian", column_weights=wrong) == (
            f"column_weights must be of shape (3,), got {wrong.shape}; give one for each column"
        )
    for wrong, shown in (
        ([0.0, 0, 0], "0.0..0.0"),
        ([-1.0, 1, 1], "-1.0..1.0"),
        ([np.nan, 1, 1], "nan..nan"),
        ([np.inf, 1, 1], "1.0..inf"),
    ):
        assert refusal(rtn, weight, clip="hessian", column_weights=np.array(wrong)) == (
            f"column_weights must be finite and >= 0, and one above 0, got {shown}; check that the "
            "calibration reached this layer"
        )
    assert rtn(weight, clip="hessian", column_weights=[1, 2, 3]).codes.all()


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
        grid = fitting.fit(weight)
        assert refusal(using.encode, weight, fitted=grid) == (
            f"fitted must be a grid of {using} for a matrix of shape (4, 10), got UniformGrid of "
            "other settings or another shape; use what fit returns"
        )
    scales = np.ones((4, 1), np.float32)
    moved = UniformGrid(scales=scales, zero_points=scales, lowest=-31, highest=31, group_size=10)
    assert refusal(ScalarConfig().encode, weight, fitted=moved).startswith("fitted must be a grid")
    whole = UniformGrid(
        scales=scales, zero_points=0 * scales, lowest=-31, highest=31, group_size=999
    )
    assert ScalarConfig().encode(weight, fitted=whole).codes.shape == (4, 10)
    config, weights = ScalarConfig(clip="hessian"), np.arange(10.0)
    grid = config.fit(weight, column_weights=weights)
    assert config.encode(weight, fitted=grid).arrays["scales"].shape == (4, 1)
    assert refusal(config.encode, weight, fitted=grid, column_weights=weights) == (
        "column_weights is used to fit a grid, got it with fitted; leave it out"
    )


def damaged(config, **changed):
    q = config.encode(np.arange(6.0).reshape(2, 3))
    codes = changed.pop("codes", q.codes)
    arrays = {
        name: array for name, array in (dict(q.arrays) | changed).items() if array is not None
    }
    return refusal(config.check, codes, arrays, (2, 3))


def test_what_a_file_holds_is_checked():
    config, affine = ScalarConfig(), ScalarConfig(symmetric=False)
    for kind, wrong in (
        (config, np.zeros((2, 3), np.uint8)),
        (affine, np.zeros((2, 3), np.int8)),
        (config, np.zeros((3, 2), np.int8)),
        (config, np.zeros((2, 3))),
    ):
        dtype = "int8" if kind is config else "uint8"
        assert damaged(kind, codes=wrong) == (
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
        "scales must be finite and > 0, got nan..nan; use 1 for a group of zeros"
    )
    assert damaged(config, scales=np.full((2, 1), 3e38, np.float32)) == (
        "levels must be finite, got a scale of 3e+38; it is too large"
    )


def test_steps_are_rounded_never_to_zero():
    scales = np.array([[0.0, 1e-9, 1 / 3]])
    assert round_scales(scales, "float16").tolist() == [[2.0**-24, 2.0**-24, np.float16(1 / 3)]]
    assert round_scales(scales, "float32").tolist() == [
        [2.0**-149, np.float32(1e-9), np.float32(1 / 3)]
    ]


def test_a_part_is_fitted_as_in_the_whole(rng):
    """What GPTQ does where groups are fitted as it goes."""
    matrix = rng.standard_normal((4, 12)).astype(np.float32)
    config = ScalarConfig(bits=3, per="group", group_size=4, clip="mse")
    whole, part = config.fit(matrix), config.fit(np.ascontiguousarray(matrix[:, 4:8]))
    np.testing.assert_array_equal(part.scales[:, 0], whole.scales[:, 1])
    rows = fit_uniform(matrix, 4, 4, bits=3, symmetric=True, clip="mse", scale_dtype="float32")
    np.testing.assert_array_equal(rows.scales, whole.scales)
