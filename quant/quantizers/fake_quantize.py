"""Fake quantization: a weight replaced by its quantized self, with a gradient that goes through."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quant.numerics.grid import UniformGrid, check_fit
from quant.quantizers.scalar import ScalarConfig, ScalarQuantizer

if TYPE_CHECKING:
    import torch


def fake_quantize(
    weight: "torch.Tensor", how: ScalarConfig | UniformGrid, *, transposed: bool = False
) -> "torch.Tensor":
    """The weight as it will be after quantization, to the bit, in its own shape, dtype and device.

    The gradient is straight-through: it passes unchanged where the weight is within the levels'
    reach (half a step beyond the outermost level included), and is 0 where it was clipped.

    Parameters
    ----------
    weight : (out, in) or (out, in, ...) tensor of floats
    how : ScalarConfig or UniformGrid
        With a grid all is done where the weight is. A configuration is fitted by the very function
        that exports do, on the CPU; clip="hessian" must be fitted first, and its grid given.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        As `ScalarQuantizer.fit`; or if the grid does not fit the weight.
    """
    import torch

    if isinstance(how, ScalarConfig):
        how = ScalarQuantizer(how).fit(weight, transposed=transposed)
    if weight.ndim < 2:
        raise ValueError(
            f"weight must be a matrix (out, in), got shape {tuple(weight.shape)}; pass vectors "
            "through as they are"
        )
    rows_first = weight.T if transposed else weight.flatten(1)
    check_fit(how.scales, how.group_size, tuple(rows_first.shape))
    matrix = rows_first.to(torch.float32)
    scales, zero_points = (
        spread(its, how.group_size, matrix) for its in (how.scales, how.zero_points)
    )
    code = torch.round(matrix / scales) + zero_points
    kept = code.clamp(how.lowest, how.highest)
    value = (kept.detach() - zero_points) * scales
    passed = torch.where(code == kept, matrix, 0.0)
    matrix = value + (passed - passed.detach())  # adds 0, and the gradient
    restored = matrix.T if transposed else matrix.reshape(weight.shape)
    return restored.to(weight.dtype)


def spread(scales: NDArray[np.float32], group_size: int, matrix: "torch.Tensor") -> "torch.Tensor":
    """Scales (R or 1, G) repeated for every column, (R or 1, C), where the matrix is."""
    import torch

    its = torch.tensor(scales, device=matrix.device)
    if its.shape[1] == 1 or group_size == 1:
        return its
    return its.repeat_interleave(group_size, 1)[:, : matrix.shape[1]]
