"""GPTQ against a slow twin, what its Hessian must be, and what it answers to bad input."""

import json
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from quant.base.config import Config
from quant.numerics.coordinate_descent import damped_hessian
from quant.numerics.gptq_solver import ROWS, solve
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.numerics.hessian import BLOCK_ROWS, DampingWarning, Hessian, check_hessian, ldl_factor
from quant.quantizers.gptq import GptqConfig, gptq
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.quantize import label
from quant.quantizers.scalar import ScalarConfig, rtn

pytestmark = pytest.mark.kernels


@pytest.fixture
def layer(rng):
    """(weight (10, 12) float32, calibration rows (50, 12) float64)."""
    weight = rng.standard_normal((10, 12)) * np.exp(rng.standard_normal((10, 1)))
    inputs = rng.standard_normal((50, 12)) @ rng.standard_normal((12, 12))
    return weight.astype(np.float32), inputs


def mean_of(inputs):
    return inputs.T @ inputs / len(inputs)


def error(call, *arguments, **options):
    """Text of the ValueError."""
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def slow_gptq(weight, hessian, round_column, order, damp=0.01, on_group=None, group_size=None):
    """What GPTQ makes of a weight, by the inverse of the Hessian, as it is published."""
    n = len(order)
    w = weight.astype(np.float64)[:, order]
    h = hessian[np.ix_(order, order)] + damp * np.diagonal(hessian).mean() * np.eye(n)
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    expected = np.zeros_like(w)
    for i in range(n):
        if on_group and i % group_size == 0:
            on_group(i // group_size, w[:, i : i + group_size].astype(np.float32))
        expected[:, i] = round_column(w[:, i].astype(np.float32), order[i], i)
        w[:, i:] -= np.outer((w[:, i] - expected[:, i]) / upper[i, i], upper[i, i:])
    reordered = np.empty_like(expected)
    reordered[:, order] = expected
    return reordered


def order_of(hessian, act_order):
    return np.argsort(-np.diagonal(hessian)) if act_order else np.arange(len(hessian))


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("per", ["tensor", "row", "column", "group"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_makes_what_the_published_algorithm_makes(layer, act_order, per, symmetric):
    weight, inputs = layer
    hessian = mean_of(inputs)
    grid = {"bits": 4, "clip": "mse", "per": per, "symmetric": symmetric}
    if per == "group":
        grid["group_size"] = 5
    q = gptq(weight, hessian, **grid, act_order=act_order, block_size=8)
    inner = ScalarConfig(**grid).fit(weight)

    def round_column(column, position, _):
        step, zero = inner.column(position)
        return (np.clip(np.rint(column / step) + zero, inner.lowest, inner.highest) - zero) * step

    expected = slow_gptq(weight, hessian, round_column, order_of(hessian, act_order))
    np.testing.assert_array_equal(q.dequantize(), expected)


@pytest.mark.parametrize("clip", ["absmax", "hessian", "sd:2.5"])
@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("group_size", [4, 5, 12, 100])
def test_groups_fitted_on_the_way_are_those_of_the_published_algorithm(
    layer, act_order, group_size, clip
):
    weight, inputs = layer
    hessian = mean_of(inputs)
    order = order_of(hessian, act_order)
    config = ScalarConfig(bits=4, per="row", clip=clip)
    grids = {}

    def on_group(g, weights):
        columns = order[g * group_size : (g + 1) * group_size]
        grids[g] = config.fit_grid(np.ascontiguousarray(weights), np.diagonal(hessian)[columns])

    def round_column(column, _, i):
        grid = grids[i // group_size]
        step = grid.scales[:, 0]
        return np.clip(np.rint(column / step), grid.lowest, grid.highest) * step

    expected = slow_gptq(weight, hessian, round_column, order, 0.01, on_group, group_size)
    q = gptq(
        weight, hessian, bits=4, clip=clip, per="group", group_size=group_size, block_size=3,
        act_order=act_order, static_groups=False,
    )  # fmt: skip
    np.testing.assert_allclose(q.dequantize(), expected, rtol=1e-5, atol=1e-6)
    assert ("order" in q.arrays) == act_order
    assert q.arrays["scales"].shape == (10, -(-12 // group_size))


@pytest.mark.parametrize("shape", [(10, 1), (1, 1), (10, 3), (1, 3)])
def test_levels_of_a_codebook(layer, shape):
    weight, inputs = layer
    hessian = mean_of(inputs)
    book = np.array([-2, -1.1, -0.4, 0, 0.3, 0.9, 2.5], np.float32)
    scales = np.linspace(0.5, 1.5, num=shape[0] * shape[1], dtype=np.float32).reshape(shape)
    grid = CodebookGrid(codebook=book, scales=scales, group_size=12 // shape[1])

    def round_column(column, position, _):
        scale = grid.column(position)
        return book[np.abs(column[:, None] / scale[:, None] - book).argmin(axis=1)] * scale

    codes, loss = solve(weight, ldl_factor(hessian), grid, 5)
    expected = slow_gptq(weight, hessian, round_column, order_of(hessian, True))
    np.testing.assert_array_equal(grid.decode(codes), expected)
    errors = weight.astype(np.float64) - expected
    damped = hessian + 0.01 * np.diagonal(hessian).mean() * np.eye(12)
    assert loss == pytest.approx(np.vdot(errors @ damped, errors), rel=1e-9)


@pytest.mark.parametrize(
    "config",
    [
        LloydMaxConfig(k=5),
        LloydMaxConfig(k=16, scale="rms", group_size=5, scale_dtype="float16"),
        LloydMaxConfig(k=9, scale="none"),
        LloydMaxConfig(table="nf4", group_size=4),
    ],
)
def test_codebooks_that_are_fitted(layer, config):
    weight, inputs = layer
    hessian = mean_of(inputs)
    q = GptqConfig(inner=config).encode(weight, hessian)
    nearest = config.encode(weight)
    assert q.arrays.keys() == nearest.arrays.keys()
    assert (q.code_bits, q.nbytes) == (nearest.code_bits, nearest.nbytes)
    q.config.check(q.codes, q.arrays, weight.shape)
    assert Config.from_json(json.loads(json.dumps(q.config.to_json()))) == q.config
    errors = weight.astype(np.float64) - q.matrix()
    damped = hessian + 0.01 * np.diagonal(hessian).mean() * np.eye(12)
    assert q.report.loss == pytest.approx(np.vdot(errors @ damped, errors), rel=1e-9)
    plain = weight.astype(np.float64) - nearest.matrix()
    assert q.report.loss < np.vdot(plain @ damped, plain)
    again = GptqConfig(inner=config).encode(weight, hessian, fitted=config.fit(weight))
    np.testing.assert_array_equal(again.codes, q.codes)


@pytest.mark.parametrize("static_groups", [True, False])
def test_blocks_of_rows_do_not_show(rng, static_groups):
    weight = rng.standard_normal((2 * ROWS + 3, 4)).astype(np.float32)
    hessian = mean_of(rng.standard_normal((9, 4)))
    settings = {"per": "group", "group_size": 3, "static_groups": static_groups}
    whole = gptq(weight, hessian, **settings)
    for start in (0, ROWS - 1, ROWS, 2 * ROWS):
        part = gptq(weight[start : start + 3], hessian, **settings)
        np.testing.assert_array_equal(part.codes, whole.codes[start : start + 3])
        np.testing.assert_array_equal(
            part.arrays["scales"], whole.arrays["scales"][start : start + 3]
        )


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_it_beats_rounding_to_nearest_on_what_it_was_calibrated_with(rng, bits):
    weight = rng.standard_normal((32, 24)).astype(np.float32)
    inputs = rng.standard_normal((200, 24)) @ rng.standard_normal((24, 24))
    hessian = mean_of(inputs * np.exp(rng.standard_normal(24)))
    column_weights = {}
    for name, q in (
        ("rtn", rtn(weight, bits=bits, clip="mse")),
        ("standing", gptq(weight, hessian, bits=bits, clip="mse", act_order=False)),
        ("act", gptq(weight, hessian, bits=bits, clip="mse")),
    ):
        errors = weight - q.matrix()
        column_weights[name] = np.vdot(errors @ hessian, errors), np.vdot(errors, errors)
    assert column_weights["act"][0] < column_weights["standing"][0] < 0.7 * column_weights["rtn"][0]
    assert (
        column_weights["act"][1] > column_weights["rtn"][1]
    )  # and yet the weights themselves are further off


def test_all_bytes_are_counted(layer):
    weight, inputs = layer
    q = gptq(weight, mean_of(inputs), bits=4, per="group", group_size=4, static_groups=False)
    assert q.code_bits == 4
    assert q.nbytes == 60 + 10 * 3 * 4 + 12 * 4  # codes, steps, order


def test_degenerate_weights_are_exact(layer):
    _, inputs = layer
    hessian = mean_of(inputs)
    zeros = np.zeros((3, 12), np.float32)
    q = gptq(zeros, hessian)
    np.testing.assert_array_equal(q.dequantize(), zeros)
    assert q.report.loss == 0
    mixed = np.vstack([zeros[0], np.linspace(-1, 1, 12)])
    np.testing.assert_array_equal(gptq(mixed, hessian).dequantize()[0], zeros[0])
    constant = np.full((3, 12), 0.7, np.float32)
    np.testing.assert_allclose(gptq(constant, hessian).dequantize(), constant, rtol=1e-6)
    one = gptq(np.array([[-0.3]]), [[2.0]])
    np.testing.assert_allclose(one.dequantize(), [[-0.3]], rtol=1e-6)
    column = np.linspace(-1, 1, 5)[:, None]
    np.testing.assert_array_equal(gptq(column, [[3.0]]).codes, rtn(column).codes)


def test_a_dead_column_takes_the_level_nearest_to_zero():
    book = np.array([-1, 0.25, 2], np.float32)
    grid = CodebookGrid(codebook=book, scales=np.ones((1, 1), np.float32), group_size=2)
    factor = ldl_factor(np.diag([0.0, 1.0]))
    codes, loss = solve(np.array([[0.0, 2.0]], np.float32), factor, grid, 128)
    assert codes.tolist() == [[1, 2]]
    assert loss == 0


# the Hessian


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_pieces_make_the_hessian_of_the_whole(rng, dtype):
    rows = rng.standard_normal((BLOCK_ROWS + 50, 3)).astype(dtype)
    pieces = Hessian(3)
    for start, stop in ((0, 1), (1, 20), (20, 20), (20, BLOCK_ROWS + 50)):
        pieces.add(rows[start:stop])
    exact = mean_of(rows.astype(np.float64))
    np.testing.assert_allclose(
        pieces.matrix(), exact, rtol=0, atol=1e-13 if dtype == "float64" else 1e-6
    )
    assert (pieces.n_rows, pieces.n_columns) == (BLOCK_ROWS + 50, 3)


def test_rows_may_have_any_shape_before_the_last(rng):
    rows = rng.standard_normal((2, 5, 3)).astype(np.float32)
    flat, batched, tensors, halves = (Hessian(3) for _ in range(4))
    flat.add(rows.reshape(10, 3))
    batched.add(rows)
    tensors.add(torch.from_numpy(rows).requires_grad_())
    halves.add(torch.from_numpy(rows).bfloat16())
    np.testing.assert_array_equal(batched.matrix(), flat.matrix())
    np.testing.assert_array_equal(tensors.matrix(), flat.matrix())
    np.testing.assert_allclose(halves.matrix(), flat.matrix(), atol=0.02)
    assert halves.n_rows == 10


def test_a_hessian_is_as_good_as_its_matrix(layer):
    weight, inputs = layer
    hessian = Hessian(12)
    hessian.add(inputs)
    q = gptq(weight, hessian)
    np.testing.assert_array_equal(q.codes, gptq(weight, mean_of(inputs)).codes)


@pytest.mark.parametrize("act_order", [True, False])
def test_the_factor_is_one_and_its_pivots_are_those_of_the_inverse(layer, act_order):
    hessian = mean_of(layer[1])
    factor = ldl_factor(hessian, damp=0.1, act_order=act_order)
    damped = hessian + 0.1 * np.diagonal(hessian).mean() * np.eye(12)
    damped = damped[np.ix_(factor.order, factor.order)]
    half = factor.pivots[:, None] * factor.feedback
    np.testing.assert_allclose(half.T @ half, damped, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(factor.feedback, np.tril(factor.feedback))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    np.testing.assert_allclose(factor.pivots, 1 / np.diagonal(upper), rtol=1e-9)
    is_falling = (np.diff(np.diagonal(hessian)[factor.order]) <= 0).all()
    assert is_falling == act_order


def test_damping_raises_itself_and_says_so(rng):
    weight = rng.standard_normal((3, 12)).astype(np.float32)
    hessian = mean_of(rng.standard_normal((5, 12)))
    assert gptq(weight, hessian).config.damp == 0.01
    with pytest.warns(DampingWarning) as caught:
        q = gptq(weight, hessian, damp=0)
    assert [str(warning.message) for warning in caught] == [
        "the Hessian could not be factored with damp 0; 1e-08 was used: calibrate with more rows, "
        "or set a larger damp"
    ]
    assert q.report.damp == q.config.damp == 1e-8
    assert np.isfinite(q.report.loss)


def test_pivots_that_are_rounding_errors_are_none():
    hessian = np.array([[1.0, 1.0], [1.0, 1.0 + np.finfo(float).eps]])
    np.linalg.cholesky(hessian)  # does not fail
    with pytest.warns(DampingWarning):
        assert ldl_factor(hessian, damp=0).damp == 1e-8


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_dead_columns_need_no_damping_whatever_the_scale(layer, scale):
    hessian = mean_of(layer[1])
    hessian[3] = hessian[:, 3] = 0
    assert ldl_factor(scale * hessian).damp == 0.01


def test_damping_goes_up_tenfold(rng):
    hessian = np.eye(4)
    hessian[:2, :2] = [[1, 1.05], [1.05, 1]]  # least eigenvalue -0.05
    with pytest.warns(DampingWarning):
        assert ldl_factor(hessian, damp=0.001).damp == pytest.approx(0.1)
    with pytest.warns(DampingWarning):
        assert ldl_factor(hessian - np.diag([0, 0, 0.5, 0.5]), damp=0.02).damp == pytest.approx(0.2)


def test_no_damping_makes_an_indefinite_hessian_good():
    hessian = np.array([[1.0, 5.0], [5.0, 1.0]])
    assert error(gptq, np.ones((2, 2)), hessian) == (
        "hessian must be positive semidefinite, got one that cannot be factored even with damp 1; "
        "take the mean of x xᵀ over calibration rows"
    )


def test_what_a_hessian_refuses():
    assert error(Hessian, 0) == (
        f"n_columns must be an integer in 1..{sys.maxsize}, got 0; correct it"
    )
    hessian = Hessian(2)
    assert error(hessian.matrix) == (
        "a Hessian needs at least one calibration row, got 0; check that the calibration reaches "
        "the layer, or round to nearest"
    )
    assert error(gptq, np.ones((2, 2)), hessian) == error(hessian.matrix)
    assert error(hessian.add, np.ones((4, 3))) == (
        "calibration rows must have 2 columns, got shape (4, 3); give what goes into the layer"
    )
    assert error(hessian.add, 1.0) == (
        "calibration rows must have 2 columns, got shape (); give what goes into the layer"
    )
    assert error(hessian.add, np.array([["a", "b"]])) == (
        "calibration must be of numbers, got <U1; cast it first"
    )
    for bad in (np.nan, np.inf, 1e30):
        rows = np.ones((2 * BLOCK_ROWS, 2), np.float32)
        rows[BLOCK_ROWS + 7, 1] = bad
        assert error(hessian.add, rows) == (
            "calibration rows must be finite, and their squares too, got otherwise in column 1; "
            "look at the model's activations"
        )
    assert hessian.n_rows == 0
    hessian.add(np.full((1, 2), 1e30))  # float64 holds the square
    assert hessian.matrix()[0, 0] == pytest.approx(1e60)


@pytest.mark.parametrize(
    ("hessian", "text"),
    [
        (
            np.eye(3),
            "hessian must have shape (2, 2) for a weight of 2 columns, got (3, 3); use that of "
            "this layer, and transposed=True for a Conv1D",
        ),
        (
            Hessian(3),
            "hessian must have shape (2, 2) for a weight of 2 columns, got (3, 3); use that of "
            "this layer, and transposed=True for a Conv1D",
        ),
        (
            np.ones(2),
            "hessian must have shape (2, 2) for a weight of 2 columns, got (2,); use that of "
            "this layer, and transposed=True for a Conv1D",
        ),
        (
            [[1.0, np.nan], [np.nan, 1.0]],
            "hessian must be finite, got nan in row 0, column 1; look at the model's activations",
        ),
        (
            [[1.0, 0.5], [0.25, 1.0]],
            "hessian must be symmetric, got halves that differ by 0.25; take the mean of x xᵀ over "
            "calibration rows",
        ),
        (
            np.zeros((2, 2)),
            "hessian must not be all zero on its diagonal, got no live column; check that the "
            "calibration reaches the layer, or round to nearest",
        ),
        (
            np.diag([1.0, -0.5]),
            "hessian must have a diagonal >= 0, got -0.5 in column 1; take the mean of x xᵀ over "
            "calibration rows",
        ),
        (
            [[1.0, 0.5], [0.5, 0.0]],
            "hessian must be zero beside a zero of its diagonal, got otherwise in column 1; take "
            "the mean of x xᵀ over calibration rows",
        ),
    ],
)
def test_what_is_no_hessian(hessian, text):
    assert error(gptq, np.ones((2, 2)), hessian) == text


def test_what_rounding_leaves_between_halves_is_evened_out():
    matrix = check_hessian([[2.0, 0.5], [0.5 + 1e-6, 1.0]], 2)
    np.testing.assert_allclose(matrix, [[2.0, 0.5 + 5e-7], [0.5 + 5e-7, 1.0]], rtol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)


# what else is refused


@pytest.mark.parametrize(
    ("weight", "text"),
    [
        (
            np.array([[1.0, np.nan]]),
            "weight must be finite, got nan in row 0, column 1; look at the training, or leave the "
            "tensor out",
        ),
        (
            np.array([[1.0, np.inf]]),
            "weight must be finite, got inf in row 0, column 1; look at the training, or leave the "
            "tensor out",
        ),
        (
            np.ones((0, 2)),
            "weight must be a matrix (out, in) of at least one weight, got shape (0, 2); pass "
            "vectors through as they are",
        ),
        (
            np.ones(2),
            "weight must be a matrix (out, in) of at least one weight, got shape (2,); pass "
            "vectors through as they are",
        ),
    ],
)
def test_what_is_no_weight(weight, text):
    assert error(gptq, weight, np.eye(2)) == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"inner": 6}, "inner must be a ScalarConfig or a LloydMaxConfig, got 6; GPTQ rounds to "
         "the levels of a grid"),
        ({"act_order": 1}, "act_order must be True or False, got 1; correct it"),
        ({"static_groups": None}, "static_groups must be True or False, got None; correct it"),
        ({"block_size": 0}, "block_size must be an integer in 1..65536, got 0; correct it"),
        ({"n_passes": -1}, "n_passes must be an integer in 0..64, got -1; correct it"),
        ({"n_passes": 65}, "n_passes must be an integer in 0..64, got 65; correct it"),
        ({"n_passes": True}, "n_passes must be an integer in 0..64, got True; correct it"),
        ({"damp": -0.1}, "damp must be a number in [0, 1], got -0.1; 0.01 is usual"),
        ({"damp": float("nan")}, "damp must be a number in [0, 1], got nan; 0.01 is usual"),
        ({"damp": "1"}, "damp must be a number in [0, 1], got '1'; 0.01 is usual"),
        ({"static_groups": False, "inner": ScalarConfig()},
         f"static_groups=False needs a ScalarConfig with per='group', got {ScalarConfig()}; there "
         "are no groups to fit"),
    ],
)  # fmt: skip
def test_what_is_no_configuration(fields, text):
    assert error(GptqConfig, **fields) == text


def test_gptq_of_gptq_is_refused():
    assert error(GptqConfig, inner=GptqConfig()).startswith(
        "inner must be a ScalarConfig or a LloydMaxConfig, got GptqConfig("
    )


def test_only_grids_of_the_configuration_are_taken(layer):
    weight, inputs = layer
    hessian = mean_of(inputs)
    quantizer = GptqConfig(inner=ScalarConfig(bits=6))
    fits = quantizer.fit(weight, hessian)
    book = CodebookGrid(
        codebook=np.array([-1, 1], np.float32), scales=np.ones((1, 1), np.float32), group_size=12
    )
    text = (
        f"fitted must be a grid of {quantizer.inner} for a matrix of shape (10, 12), got "
        "%s of other settings or another shape; use what fit returns"
    )
    quantizer.encode(weight, hessian, fitted=fits)
    for other in (
        ScalarConfig(bits=5).fit(weight),
        ScalarConfig(bits=6, per="tensor").fit(weight),
        ScalarConfig(bits=6).fit(weight[:9]),
        ScalarConfig(bits=6, per="group", group_size=4).fit(weight),
        book,
    ):
        assert error(quantizer.encode, weight, hessian, fitted=other) == text % type(other).__name__
    on_the_way = GptqConfig(inner=ScalarConfig(per="group", group_size=4), static_groups=False)
    assert error(on_the_way.encode, weight, hessian, fitted=fits) == (
        "static_groups=False fits its own grids, got fitted; leave one of them out"
    )


def test_halved_steps_are_those_that_are_used(layer):
    weight, inputs = layer
    q = gptq(weight, mean_of(inputs), scale_dtype="float16")
    assert q.arrays["scales"].dtype == np.float16
    scales = q.arrays["scales"].astype(np.float32)
    np.testing.assert_array_equal(q.matrix(), q.codes * scales)
    quantizer = q.config
    wide = ScalarConfig(clip="sd:12.85").fit(weight)  # no float16 holds its steps
    assert "of other settings" in error(quantizer.encode, weight, mean_of(inputs), fitted=wide)


def test_what_a_file_may_not_hold(layer):
    weight, inputs = layer
    q = gptq(weight, mean_of(inputs), per="group", group_size=4, static_groups=False)
    shape = weight.shape
    q.config.check(q.codes, q.arrays, shape)
    scales = {"scales": q.arrays["scales"]}
    assert error(q.config.check, q.codes, scales, shape) == (
        f"arrays must include 'order' for {q.config}, got scales; the file is damaged"
    )
    plain = GptqConfig()
    assert error(plain.check, q.codes, q.arrays, shape) == (
        f"arrays must not include 'order' for {plain}, got order, scales; the file is damaged"
    )
    for order, text in (
        (np.arange(12), "order must be int32 of shape (12,), got int64 of shape (12,); the file is "
         "damaged"),
        (np.arange(11, dtype=np.int32), "order must be int32 of shape (12,), got int32 of shape "
         "(11,); the file is damaged"),
        (np.zeros(12, np.int32), "order must contain each column 0..11 once; the file is damaged"),
        (np.arange(1, 13, dtype=np.int32), "order must contain each column 0..11 once; the file is "
         "damaged"),
    ):  # fmt: skip
        assert error(q.config.check, q.codes, scales | {"order": order}, shape) == text
    assert error(q.config.check, q.codes[:9], q.arrays, shape) == (
        "codes must be int8 of shape (10, 12), got int8 of shape (9, 12); the file is damaged"
    )


def test_a_configuration_survives_json():
    config = GptqConfig(
        inner=ScalarConfig(bits=3, per="group", group_size=8), damp=0, static_groups=False
    )
    text = json.dumps(config.to_json())
    assert Config.from_json(json.loads(text)) == config
    assert config.damp == 0.0
    swept = replace(config, n_passes=3)
    assert swept.to_json()["n_passes"] == 3
    assert Config.from_json(swept.to_json()) == swept
    assert label(GptqConfig(n_passes=3)) == "gptq n_passes=3 of scalar clip=sd:12.85"


def test_the_inner_configuration_must_be_known():
    config = GptqConfig()
    assert error(Config.from_json, config.to_json() | {"inner": {"kind": "gp"}}).startswith(
        "kind must be one of "
    )


def test_nothing_warns_where_all_is_well(layer):
    weight, inputs = layer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gptq(weight * 1e30, mean_of(inputs) * 1e-30)
        gptq(weight * 1e-38, mean_of(inputs) * 1e30)


# passes of coordinate descent


def slow_descent(weight, hessian, q, order, n_passes, size, damp=0.01):
    """(matrix, loss) after passes over symmetric codes, one weight after the other."""
    n = len(order)
    damped = hessian + damp * np.diagonal(hessian).mean() * np.eye(n)
    codes, scales = q.codes.astype(float), q.arrays["scales"].astype(float)
    most = 2 ** (q.code_bits - 1) - 1
    for r, w in enumerate(weight.astype(float)):
        for _ in range(n_passes):
            for g in range(scales.shape[1]):
                unit = np.where(np.arange(n) // size == g, codes[r], 0)
                errors = codes[r] * np.repeat(scales[r], size)[:n] - w
                if unit.any():
                    scales[r, g] -= unit @ damped @ errors / (unit @ damped @ unit)
            step = np.repeat(scales[r], size)[:n]
            for j in order:
                others = codes[r] * step - w
                others[j] = 0
                target = w[j] - damped[j] @ others / damped[j, j]
                codes[r, j] = np.clip(np.rint(target / step[j]), -most, most)
    matrix = codes * np.repeat(scales, size, axis=1)[:, :n]
    errors = matrix - weight
    return matrix, np.vdot(errors @ damped, errors)


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("group_size", [5, 12])
@pytest.mark.parametrize("bits", [3, 6])
def test_passes_are_those_of_a_slow_reference(layer, bits, group_size, act_order):
    weight, inputs = layer
    hessian = mean_of(inputs)
    grid = {"bits": bits, "clip": "mse", "per": "group", "group_size": group_size}
    grid["act_order"] = act_order
    plain = gptq(weight, hessian, **grid)
    for n_passes in (1, 3):
        q = gptq(weight, hessian, **grid, n_passes=n_passes, block_size=5)
        expected, loss = slow_descent(
            weight, hessian, plain, order_of(hessian, act_order), n_passes, group_size
        )
        np.testing.assert_allclose(q.matrix(), expected, rtol=1e-4)  # scales are float32
        assert q.report.loss == pytest.approx(loss, rel=1e-5)
        assert q.report.loss < plain.report.loss


@pytest.mark.parametrize("static_groups", [True, False])
def test_passes_lower_the_loss_on_every_grid(rng, static_groups):
    weight = rng.standard_normal((64, 48)).astype(np.float32)
    inputs = rng.standard_normal((400, 48)) @ rng.standard_normal((48, 48))
    hessian = mean_of(inputs)
    fields = {"static_groups": static_groups}
    inners = [ScalarConfig(bits=4, clip="mse", per="group", group_size=16)]
    if static_groups:
        inners += [
            ScalarConfig(bits=4, clip="mse"),
            ScalarConfig(bits=4, symmetric=False, scale_dtype="float16"),
            ScalarConfig(bits=4, clip="mse", per="tensor"),
            ScalarConfig(bits=4, clip="mse", per="column"),
            LloydMaxConfig(k=12, group_size=16, scale_dtype="float16"),
            LloydMaxConfig(k=12, scale="none"),
        ]
    for inner in inners:
        plain, q = (
            GptqConfig(inner=inner, n_passes=n_passes, **fields).encode(weight, hessian)
            for n_passes in (0, 4)
        )
        assert q.report.loss < 0.95 * plain.report.loss
        assert q.nbytes == plain.nbytes
        assert q.config == replace(plain.config, n_passes=4)


def test_one_row_has_the_scale_of_its_tensor_for_itself(layer):
    weight, inputs = layer
    hessian = mean_of(inputs)
    for rows, is_same in ((10, True), (1, False)):
        plain, q = (
            gptq(weight[:rows], hessian, bits=3, clip="mse", per="tensor", n_passes=n_passes)
            for n_passes in (0, 1)
        )
        assert (q.arrays["scales"] == plain.arrays["scales"]).all() == is_same
    inner = LloydMaxConfig(k=3, scale="none")
    assert GptqConfig(inner=inner, n_passes=1).encode(weight[:1], hessian).arrays.keys() == {
        "codebook"
    }


def last_rows(grid, n):
    rows = slice(-n, None) if len(grid.scales) > 1 else slice(None)
    return replace(grid, scales=grid.scales[rows], zero_points=grid.zero_points[rows])


def row_grid(step, n=4):
    scales = np.full((1, 1), step, np.float32)
    return UniformGrid(
        scales=scales, zero_points=np.zeros_like(scales), lowest=-31, highest=31, group_size=n
    )


def test_refitted_steps_are_of_least_squares():
    weight = np.array([[1.1, -2.2, 4.4, 0.0]], np.float32)
    hessian = np.diag([1.0, 2.0, 3.0, 4.0])
    q = GptqConfig(n_passes=1).encode(weight, hessian, fitted=row_grid(1.0))
    assert q.codes.tolist() == [[1, -2, 4, 0]]
    np.testing.assert_array_equal(q.arrays["scales"], np.float32([[1.1]]))
    np.testing.assert_array_equal(q.matrix(), weight)
    assert q.report.loss == 0


@pytest.mark.parametrize(
    ("weight", "step", "dtype"),
    [
        ([1.0, -2.1, 1.1, 0.0], 65504, "float16"),  # a better step overflows
        ([0.9, 0.1, 0.0, 0.0], 2.0**-24, "float16"),  # a better step is no nearer
        ([1.0, -2.1, 1.1, 0.0], 1.09e37, "float32"),  # its levels overflow
        ([0.0, 0.0, 0.0, 0.0], 1.0, "float32"),
    ],
)
def test_a_step_stays_where_no_better_one_can_be_stored(weight, step, dtype):
    weight = np.array([weight]) * step
    quantizer = GptqConfig(inner=ScalarConfig(scale_dtype=dtype), n_passes=2)
    q = quantizer.encode(weight, np.eye(4), fitted=row_grid(step))
    assert q.arrays["scales"].astype(np.float32) == np.float32(step)
    assert q.codes.tolist() == [np.rint(weight[0] / step).tolist()]


@pytest.mark.parametrize("act_order", [True, False])
def test_passes_use_the_hessian_that_was_factored(layer, act_order):
    inputs = layer[1]
    inputs[:, [2, 7]] = 0
    factor = ldl_factor(mean_of(inputs), damp=0.1, act_order=act_order)
    half = factor.pivots[:, None] * factor.feedback
    matrix = damped_hessian(mean_of(inputs), factor)
    np.testing.assert_allclose(matrix, half.T @ half, rtol=1e-10, atol=1e-10)


def test_dead_columns_keep_their_codes_in_passes(layer):
    weight, inputs = layer
    inputs[:, [2, 7]] = 0
    q, plain = (gptq(weight, mean_of(inputs), bits=3, n_passes=n) for n in (4, 0))
    np.testing.assert_array_equal(q.codes[:, [2, 7]], plain.codes[:, [2, 7]])
    np.testing.assert_array_equal(
        plain.codes[:, [2, 7]], plain.config.fit(weight, mean_of(inputs)).encode(weight)[:, [2, 7]]
    )


@pytest.mark.parametrize("per", ["tensor", "group"])
def test_blocks_of_rows_do_not_show_in_passes(rng, per):
    weight = rng.standard_normal((ROWS + 1, 4)).astype(np.float32)
    hessian = mean_of(rng.standard_normal((9, 4)))
    settings = {"bits": 3, "per": per} | ({"group_size": 3} if per == "group" else {})
    quantizer = GptqConfig(inner=ScalarConfig(**settings), n_passes=2)
    grid = quantizer.fit(weight, hessian)
    whole = quantizer.encode(weight, hessian, fitted=grid)
    if per == "tensor":  # nor is the last strip's one row taken to have a scale for itself
        np.testing.assert_array_equal(whole.arrays["scales"], grid.scales)
    last = quantizer.encode(weight[-3:], hessian, fitted=last_rows(grid, 3))
    np.testing.assert_array_equal(last.codes, whole.codes[-3:])
    assert whole.report.loss < replace(quantizer, n_passes=0).encode(weight, hessian).report.loss


def test_passes_warn_of_nothing(layer):
    weight, inputs = layer
    for scale, other in ((1e30, 1e-30), (1e-38, 1e30), (1, 1e-250), (1, 1e250)):
        q = gptq(weight * scale, mean_of(inputs) * other, bits=3, n_passes=2)
        assert np.isfinite(q.matrix()).all()
