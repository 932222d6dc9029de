"""Convert weights to matrices (out, in), and matrices back to the layout of the weight."""

import sys
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from quant.types import Array, Matrix

DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape, dtype and library of a weight.

    Attributes
    ----------
    shape : tuple of int
        (out, in), (out, in, height, width) for a convolution, or (in, out) if transposed.
    dtype : str
        One of `DTYPES`.
    is_torch, is_transposed : bool
        Whether the weight is a torch tensor; whether it is stored (in, out), as in a Conv1D.
    """

    shape: tuple[int, ...]
    dtype: str
    is_torch: bool
    is_transposed: bool

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(R, C): R outputs, C inputs."""
        if self.is_transposed:
            return self.shape[1], self.shape[0]
        return self.shape[0], prod(self.shape[1:])

    def restore(self, matrix: Matrix) -> Any:
        """Convert a matrix (R, C) to this layout; a torch tensor is on the CPU."""
        weight = matrix.T if self.is_transposed else matrix
        weight = np.ascontiguousarray(weight).reshape(self.shape)
        if not self.is_torch:
            return weight.astype(self.dtype)
        import torch

        return torch.from_numpy(weight).to(getattr(torch, self.dtype))


def as_matrix(
    weight: Any, name: str = "weight", *, transposed: bool = False
) -> tuple[Matrix, Layout]:
    """Return (the weight as a C-contiguous matrix (R, C) float32, its layout); a copy.

    Parameters
    ----------
    weight : (out, in), or (out, in, ...) of a convolution; float, numpy or torch on any device
        At least one weight; all finite after conversion to float32.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        If the weight has another shape or dtype, or is not finite.
    """
    array, dtype, is_torch = to_float(weight, name)
    if array.ndim < 2 or array.size == 0 or (transposed and array.ndim != 2):
        raise ValueError(
            f"{name} must be a matrix (out, in) of at least one weight, got shape {array.shape}; "
            "pass vectors through as they are"
        )
    layout = Layout(shape=array.shape, dtype=dtype, is_torch=is_torch, is_transposed=transposed)
    rows = array.T if transposed else array.reshape(array.shape[0], -1)
    with np.errstate(over="ignore"):  # infinities are refused below
        matrix = np.array(rows, np.float32, order="C")
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"{name} must be finite, got {rows[row, column]} in row {row}, column {column}; look "
            "at the training, or leave the tensor out"
        )
    return matrix, layout


def to_float(weight: Any, name: str) -> tuple[Array, str, bool]:
    """Return (numpy array, name of the dtype, whether the weight is a torch tensor).

    bfloat16, which numpy lacks, becomes float32. ValueError if the dtype is none of `DTYPES`.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(weight, torch.Tensor):
        dtype = str(weight.dtype).removeprefix("torch.")
        check_dtype(dtype, name)
        tensor = weight.detach().cpu()
        return (tensor.float() if dtype == "bfloat16" else tensor).numpy(), dtype, True
    array = np.asarray(weight)
    check_dtype(array.dtype.name, name)
    return array, array.dtype.name, False


def check_dtype(dtype: str, name: str) -> None:
    """Raise ValueError unless the dtype is one of `DTYPES`."""
    if dtype not in DTYPES:
        raise ValueError(
            f"{name} must be of {', '.join(DTYPES)}, got {dtype}; dequantize or cast it first"
        )
