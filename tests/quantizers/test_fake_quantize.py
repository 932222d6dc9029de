"""fake_quantize: forward what the export gives, to the bit; backward straight through."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from quant.quantizers.fake_quantize import fake_quantize
from quant.quantizers.scalar import ScalarConfig

pytestmark = pytest.mark.kernels

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
CONFIGS = [
    ScalarConfig(
        bits=3, per=per, group_size=4 if per == "group" else None, symmetric=symmetric, clip=clip
    )
    for per in ("tensor", "row", "column", "group")
    for symmetric in (True, False)
    for clip in ("absmax", "sd:1")
] + [ScalarConfig(scale_dtype="float16"), ScalarConfig(bits=8, clip="mse")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("config", CONFIGS)
def test_forward_is_what_the_export_gives(rng, config, dtype):
    quantizer = config
    for shape, transposed in (
        ((5, 11), False),
        ((11, 5), True),
        ((3, 2, 2, 2), False),
        ((1, 1), False),
    ):
        weight = torch.tensor(rng.standard_normal(shape)).to(dtype)
        exported = quantizer.encode(weight, transposed=transposed).dequantize()
        fake = fake_quantize(weight, config, transposed=transposed)
        assert fake.dtype == dtype
        assert torch.equal(fake, exported)
        assert torch.equal(torch.signbit(fake), torch.signbit(exported))
        grid = quantizer.fit(weight, transposed=transposed)
        assert torch.equal(fake_quantize(weight, grid, transposed=transposed), exported)


def test_forward_rounds_near_ties_as_the_export_does(rng):
    """Where a product with the inverse of a step would round the other way."""
    scales = rng.uniform(0.01, 1, (200, 1)).astype(np.float32)
    weight = torch.tensor((np.arange(-31, 31) + np.float32(0.5)) * scales)
    grid = replace(ScalarConfig().fit(weight), scales=scales)
    exported = ScalarConfig().encode(weight, fitted=grid).dequantize()
    assert torch.equal(fake_quantize(weight, grid), exported)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_passes_where_nothing_was_clipped(dtype):
    config = ScalarConfig(bits=2, per="tensor")
    grid = config.fit(np.eye(3))
    assert grid.scales.tolist() == [[1]]
    weight = torch.tensor([[0.2, 1.25, 1.75], [-0.7, -1.25, -9]], dtype=dtype, requires_grad=True)
    out = fake_quantize(weight, grid)
    assert out.tolist() == [[0, 1, 1], [-1, -1, -1]]
    out.backward(torch.tensor([[2, 3, 4], [5, 6, 7]], dtype=dtype))
    assert weight.grad.tolist() == [[2, 3, 0], [5, 6, 0]]


def test_the_gradient_keeps_the_shape_of_the_weight():
    weight = torch.arange(6.0).reshape(2, 3).requires_grad_()
    fake_quantize(weight, ScalarConfig(), transposed=True)[0, 2].backward()
    assert weight.grad.tolist() == [[0, 0, 1], [0, 0, 0]]
    conv = torch.arange(8.0).reshape(2, 2, 2, 1).requires_grad_()
    fake_quantize(conv, ScalarConfig())[1, 0, 1, 0].backward()
    assert conv.grad.flatten().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_training_moves_a_weight_from_level_to_level():
    weight = torch.zeros(1, 2, requires_grad=True)
    grid = ScalarConfig(bits=4).fit(np.array([[0.7, -0.7]]))
    for _ in range(60):
        loss = ((fake_quantize(weight, grid) - torch.tensor([[0.5, -0.2]])) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            weight -= 0.05 * weight.grad
            weight.grad = None
    np.testing.assert_allclose(fake_quantize(weight, grid).detach(), [[0.5, -0.2]], rtol=1e-6)


def refusal(*arguments, **options):
    with pytest.raises(ValueError) as caught:
        fake_quantize(*arguments, **options)
    return str(caught.value)


def test_what_cannot_be_quantized_is_refused():
    grid = ScalarConfig().fit(np.ones((2, 3)))
    assert refusal(torch.zeros(3), grid) == (
        "weight must be a matrix (out, in), got shape (3,); pass vectors through as they are"
    )
    assert refusal(torch.zeros(3), ScalarConfig()) == (
        "weight must be a matrix (out, in) of at least one weight, got shape (3,); pass vectors "
        "through as they are"
    )
    assert refusal(torch.zeros(4, 3), grid) == (
        "a grid must fit the matrix, got scales of shape (2, 1) for groups of 3 columns and a "
        "matrix of shape (4, 3); fit a new grid"
    )
    assert refusal(torch.tensor([[np.nan]]), ScalarConfig()) == (
        "weight must be finite, got nan in row 0, column 0; look at the training, or leave the "
        "tensor out"
    )
    assert refusal(torch.zeros(1, 1), ScalarConfig(clip="hessian")) == (
        "clip='hessian' needs a hessian or column_weights, got neither; give one of them"
    )
