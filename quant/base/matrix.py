"""Convert weights to matrices (out, in), and matrices back to the layout of the weight."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from quant.types import Array, Matrix

DTYPES = ("float16", "bfloat16", "float32", "float64")
MATRIX = 2  # axes of a matrix


class Axes(NamedTuple):
    """Which axes of a weight are rows of its matrix; the other axes are columns, in order.

    Attributes
    ----------
    rows : tuple of int
        (0,) for (out, in, ...), (1,) for (in, out, ...), (0, 1) for a stack (E, out, in).
    n_groups : int >= 1
        Above 1, the first axis is divided into so many groups, which become an axis before it; as
        for a transposed convolution (in, out / groups, ...).
    """

    rows: tuple[int, ...] = (0,)
    n_groups: int = 1

    def split(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the weight with its groups as the first axis, if there are any."""
        if self.n_groups == 1:
            return shape
        return self.n_groups, shape[0] // self.n_groups, *shape[1:]

    def columns(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Axes of the split shape that are columns."""
        return tuple(i for i in range(len(self.split(shape))) if i not in self.rows)

    def matrix_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(R, C) of the matrix of a weight of this shape."""
        split = self.split(shape)
        return prod(split[i] for i in self.rows), prod(split[i] for i in self.columns(shape))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight of this shape has these axes and groups."""
        n = len(shape) + (self.n_groups > 1)
        is_divided = self.n_groups >= 1 and shape[:1] != () and shape[0] % self.n_groups == 0
        return (
            is_divided
            and 0 < len(set(self.rows)) == len(self.rows) < n
            and all(0 <= i < n for i in self.rows)
        )


ROWS_FIRST, TRANSPOSED, STACK = Axes(), Axes((1,)), Axes((0, 1))
WIDEST_KERNEL = 15  # of a convolution (out, in, width), where nothing else tells it from a stack


def default_axes(shape: tuple[int, ...]) -> Axes:
    """Axes of a weight of which only the shape is known.

    Three axes are a stack (E, out, in), as of the experts of a mixture, if the last is longer than
    `WIDEST_KERNEL`; else the kernel (out, in, width) of a convolution.
    """
    return STACK if len(shape) == 3 and shape[-1] > WIDEST_KERNEL else ROWS_FIRST


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Shape, dtype and library of a weight, and which of its axes are rows.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        One of `DTYPES`.
    is_torch : bool
        Whether the weight is a torch tensor.
    axes : Axes
    """

    shape: tuple[int, ...]
    dtype: str
    is_torch: bool
    axes: Axes = ROWS_FIRST

    @property
    def is_transposed(self) -> bool:
        """Whether the weight is stored (in, out), as in a Conv1D."""
        return self.axes == TRANSPOSED

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(R, C): R outputs, C inputs."""
        return self.axes.matrix_shape(self.shape)

    def restore(self, matrix: Matrix) -> Any:
        """Convert a matrix (R, C) to this layout; a torch tensor is on the CPU."""
        split = self.axes.split(self.shape)
        order = (*self.axes.rows, *self.axes.columns(self.shape))
        weight = matrix.reshape([split[i] for i in order]).transpose(np.argsort(order))
        weight = np.ascontiguousarray(weight).reshape(self.shape)
        if not self.is_torch:
            return weight.astype(self.dtype)
        import torch

        return torch.from_numpy(weight).to(getattr(torch, self.dtype))

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON; with ``axes`` only where ``is_transposed`` does not say which are rows."""
        values = {
            "shape": self.shape,
            "dtype": self.dtype,
            "is_torch": self.is_torch,
            "is_transposed": self.is_transposed,
        }
        is_told = self.axes == ROWS_FIRST or (self.is_transposed and len(self.shape) == MATRIX)
        return values if is_told else values | {"axes": self.axes}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Layout":
        """Layout of what `to_json` returned; an error of any kind if it is anything else."""
        values = dict(values)
        is_transposed = values.pop("is_transposed")
        if type(is_transposed) is not bool:
            raise ValueError(f"is_transposed must be True or False, got {is_transposed!r}")
        rows, n_groups = values.pop("axes", TRANSPOSED if is_transposed else ROWS_FIRST)
        axes = Axes(tuple(rows), n_groups)
        return cls(**values | {"shape": tuple(values["shape"]), "axes": axes})


def as_matrix(
    weight: Any, name: str = "weight", *, transposed: bool = False, axes: Axes | None = None
) -> tuple[Matrix, Layout]:
    """Return (the weight as a C-contiguous matrix (R, C) float32, its layout); a copy.

    Parameters
    ----------
    weight : float, numpy or torch on any device
        (out, in), or (out, in, ...) of a convolution, or (E, out, in) of a stack of matrices; see
        `default_axes`. At least one weight; all finite after conversion to float32.
    transposed : bool
        Whether the weight is stored (in, out).
    axes : Axes, optional
        Which axes are rows, whatever the shape.

    Raises
    ------
    ValueError
        If the weight has another shape or dtype, or is not finite.
    """
    array, dtype, is_torch = to_float(weight, name)
    if array.ndim < MATRIX or array.size == 0 or (transposed and array.ndim != MATRIX):
        raise ValueError(
            f"{name} must be a matrix (out, in) of at least one weight, got shape {array.shape}; "
            "pass vectors through as they are"
        )
    if axes is None:
        axes = TRANSPOSED if transposed else default_axes(array.shape)
    if not axes.fits(array.shape):
        raise ValueError(
            f"axes must be those of rows, with columns beside them, got {axes} for a {name} of "
            f"shape {array.shape}; correct them"
        )
    layout = Layout(shape=array.shape, dtype=dtype, is_torch=is_torch, axes=axes)
    split = array.reshape(axes.split(array.shape))
    rows = split.transpose((*axes.rows, *axes.columns(array.shape))).reshape(layout.matrix_shape)
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
