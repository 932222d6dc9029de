"""as_matrix: any weight as rows of outputs, and the same weight again; and every refusal."""

import numpy as np
import pytest
import torch

from quant.base.matrix import as_matrix

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def refusal(weight, **options):
    with pytest.raises(ValueError) as caught:
        as_matrix(weight, **options)
    return str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 5), (4, 3), (4, 3, 2, 2)])
def test_a_tensor_comes_back(rng, shape, dtype):
    weight = torch.tensor(rng.standard_normal(shape)).to(getattr(torch, dtype))
    matrix, layout = as_matrix(weight)
    assert matrix.shape == layout.matrix_shape == (shape[0], np.prod(shape[1:]))
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    back = layout.restore(matrix)
    assert back.dtype == weight.dtype
    assert torch.equal(back, weight.float().to(weight.dtype))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bfloat16"])
def test_an_array_comes_back(rng, dtype):
    weight = rng.standard_normal((6, 4)).astype(dtype)
    matrix, layout = as_matrix(weight)
    back = layout.restore(matrix)
    assert isinstance(back, np.ndarray)
    assert back.dtype == weight.dtype
    np.testing.assert_array_equal(back, weight.astype(np.float32).astype(dtype))


def test_transposed_weights_are_turned(rng):
    weight = rng.standard_normal((3, 5)).astype(np.float32)
    for stored in (weight, torch.from_numpy(weight)):
        matrix, layout = as_matrix(stored, transposed=True)
        np.testing.assert_array_equal(matrix, weight.T)
        assert layout.matrix_shape == (5, 3)
        np.testing.assert_array_equal(layout.restore(matrix), weight)


def test_the_matrix_is_a_copy_of_any_strides(rng):
    whole = rng.standard_normal((6, 8)).astype(np.float32)
    for weight in (whole, whole[::2, 1::3], whole.T, np.asfortranarray(whole), whole[::-1]):
        before = weight.copy()
        matrix, _ = as_matrix(weight)
        np.testing.assert_array_equal(matrix, weight)
        matrix[:] = 0
        np.testing.assert_array_equal(weight, before)


def test_a_parameter_leaves_its_graph(rng):
    weight = torch.nn.Parameter(torch.ones(2, 3))
    matrix, layout = as_matrix(weight)
    assert not layout.restore(matrix).requires_grad


@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_what_is_no_matrix_is_refused(shape):
    assert refusal(np.zeros(shape)) == (
        f"weight must be a matrix (out, in) of at least one weight, got shape {shape}; pass "
        "vectors through as they are"
    )


def test_only_matrices_are_transposed():
    assert refusal(np.zeros((2, 3, 4)), transposed=True) == (
        "weight must be a matrix (out, in) of at least one weight, got shape (2, 3, 4); pass "
        "vectors through as they are"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    weight = np.zeros((3, 4))
    weight[1, 2] = value
    assert refusal(weight) == (
        f"weight must be finite, got {value} in row 1, column 2; look at the training, or leave "
        "the tensor out"
    )


def test_what_float32_cannot_hold_is_refused():
    assert refusal(np.array([[1.0, 1e39]]), name="head") == (
        "head must be finite, got 1e+39 in row 0, column 1; look at the training, or leave the "
        "tensor out"
    )


@pytest.mark.parametrize("weight", [np.zeros((2, 2), np.int8), torch.zeros(2, 2, dtype=torch.bool)])
def test_other_dtypes_are_refused(weight):
    name = str(weight.dtype).removeprefix("torch.")
    assert refusal(weight) == (
        f"weight must be of float16, bfloat16, float32, float64, got {name}; dequantize or cast "
        "it first"
    )
