"""Fake quantization: quantized weights in training, with a straight-through gradient."""

from typing import TYPE_CHECKING

from quant.numerics.grid import UniformGrid, check_fit
from quant.quantizers.scalar import ScalarConfig
from quant.types import Matrix

if TYPE_CHECKING:
    import torch


def fake_quantize(
    weight: "torch.Tensor", grid: ScalarConfig | UniformGrid, *, transposed: bool = False
) -> "torch.Tensor":
    """Return the dequantized weight, bit for bit, in its own shape, dtype and device.

    The gradient is straight-through: it passes unchanged where the weight is within reach of the
    levels (half a scale beyond the outermost level included), and is 0 where it was clipped.

    Parameters
    ----------
    weight : (out, in) or (out, in, ...) tensor of floats
    grid : ScalarConfig or UniformGrid
        A grid is applied on the weight's device. A configuration is fitted first, on the CPU, by
        the same function as in an export; for clip="hessian", fit it yourself and pass the grid.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        As `ScalarConfig.fit`; or if the grid does not fit the weight.
    """
    import torch

    if isinstance(grid, ScalarConfig):
        grid = grid.fit(weight, transposed=transposed)
    assert isinstance(grid, UniformGrid)
    if weight.ndim < 2:
        raise ValueError(
            f"weight must be a matrix (out, in), got shape {tuple(weight.shape)}; pass vectors "
            "through as they are"
        )
    rows_first = weight.T if transposed else weight.flatten(1)
    check_fit(grid.scales, grid.group_size, tuple(rows_first.shape))
    matrix = rows_first.to(torch.float32)
    scales, zero_points = (
        spread(array, grid.group_size, matrix) for array in (grid.scales, grid.zero_points)
    )
    unclipped = torch.round(matrix / scales) + zero_points
    codes = unclipped.clamp(grid.lowest, grid.highest)
    levels = (codes.detach() - zero_points) * scales
    within_reach = torch.where(unclipped == codes, matrix, 0.0)
    matrix = levels + (within_reach - within_reach.detach())  # adds 0, and the gradient
    restored = matrix.T if transposed else matrix.reshape(weight.shape)
    return restored.to(weight.dtype)


def spread(scales: Matrix, group_size: int, matrix: "torch.Tensor") -> "torch.Tensor":
    """Repeat scales (R or 1, G) for every column, (R or 1, C), on the device of the matrix."""
    import torch

    tensor = torch.tensor(scales, device=matrix.device)
    if tensor.shape[1] == 1 or group_size == 1:
        return tensor
    return tensor.repeat_interleave(group_size, 1)[:, : matrix.shape[1]]
