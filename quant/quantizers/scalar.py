"""Scalar quantization: each weight by itself, to one of evenly spaced levels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config, check_choice, check_int
from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
from quant.numerics.clipping import code_range, fit_grid, parse_clip, read_column_weights
from quant.numerics.grid import UniformGrid

Array = NDArray[Any]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ScalarConfig(Config, kind="scalar"):
    """Evenly spaced levels.

    Attributes
    ----------
    bits : int in 2..8
        Symmetric codes are -(2^(bits-1)-1)..2^(bits-1)-1, as int8; affine ones 0..2^bits-1, uint8.
    symmetric : bool
        Whether the levels are alike on both sides of 0; else a whole zero point is stored with
        every step. 0 is a level either way.
    per : "tensor", "row", "column" or "group"
        What has a step of its own; a group is `group_size` columns of one row.
    group_size : int >= 1, or None
        Given if and only if `per` is "group"; the last group of a row may be shorter.
    clip : "absmax", "mse", "hessian" or "sd:K"
        How far the levels reach: see `quant.numerics.clipping`.
    scale_dtype : "float32" or "float16"
        How steps are stored, and so rounded before they are used.
    """

    bits: int = 6
    symmetric: bool = True
    per: str = "row"
    group_size: int | None = None
    clip: str = "absmax"
    scale_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_int(self.bits, "bits", 2, 8)
        if type(self.symmetric) is not bool:
            raise ValueError(f"symmetric must be True or False, got {self.symmetric!r}; correct it")
        check_choice(self.per, "per", ("tensor", "row", "column", "group"))
        if self.per == "group":
            check_int(self.group_size, "group_size", 1, 2**31 - 1)
        elif self.group_size is not None:
            raise ValueError(
                f"group_size goes with per='group', got {self.group_size!r} with per={self.per!r}; "
                "leave it out"
            )
        parse_clip(self.clip)
        check_choice(self.scale_dtype, "scale_dtype", ("float32", "float16"))

    def fit(self, matrix: Matrix, column_weights: NDArray[np.float64] | None = None) -> UniformGrid:
        """The grid for a matrix (R, C) float32, finite; costs (C,) are diag(H), for "hessian"."""
        return fit_grid(
            matrix,
            self.scales_shape(matrix.shape)[0],
            self.columns_per_scale(matrix.shape[1]),
            bits=self.bits,
            symmetric=self.symmetric,
            clip=self.clip,
            scale_dtype=self.scale_dtype,
            column_weights=column_weights,
        )

    def arrays(self, grid: UniformGrid) -> dict[str, Array]:
        """What is stored of a grid: its steps, and zeros (uint8) if it is affine."""
        scales = {"scales": grid.scales.astype(self.scale_dtype)}
        return (
            scales
            if self.symmetric
            else scales | {"zero_points": grid.zero_points.astype(np.uint8)}
        )

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> UniformGrid:
        """The grid of stored arrays, for a matrix of this shape (R, C)."""
        scales = np.ascontiguousarray(arrays["scales"], np.float32)
        zero_points = (
            np.zeros_like(scales) if self.symmetric else arrays["zero_points"].astype(np.float32)
        )
        lowest, highest = code_range(self.bits, self.symmetric)
        return UniformGrid(
            scales=scales,
            zero_points=zero_points,
            lowest=lowest,
            highest=highest,
            group_size=self.columns_per_scale(shape[1]),
        )

    def scales_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(rows, groups) of the steps of a matrix (R, C)."""
        rows, columns = shape
        groups = -(-columns // self.group_size) if self.group_size else 1
        return {"tensor": (1, 1), "row": (rows, 1), "column": (1, columns)}.get(
            self.per, (rows, groups)
        )

    def columns_per_scale(self, columns: int) -> int:
        """Columns that share a step, of a matrix (R, C)."""
        return 1 if self.per == "column" else min(self.group_size or columns, columns)

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32: (code - zero) * step."""
        return self.grid(arrays, shape).decode(codes)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        lowest, highest = code_range(self.bits, self.symmetric)
        dtype = np.dtype(np.int8 if self.symmetric else np.uint8)
        if codes.dtype != dtype or codes.shape != shape or codes.size == 0:
            raise ValueError(
                f"codes must be {dtype} of shape {shape}, got {codes.dtype} of shape "
                f"{codes.shape}; the file is damaged"
            )
        if codes.min() < lowest or codes.max() > highest:
            raise ValueError(
                f"codes must be in {lowest}..{highest}, got {codes.min()}..{codes.max()}; the file "
                "is damaged"
            )
        kinds = {"scales": self.scale_dtype} | ({} if self.symmetric else {"zero_points": "uint8"})
        got = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        expected = {name: (kind, self.scales_shape(shape)) for name, kind in kinds.items()}
        if got != expected:
            raise ValueError(f"arrays must be {expected}, got {got}; the file is damaged")
        grid = self.grid(arrays, shape)
        if grid.zero_points.max() > highest:
            raise ValueError(
                f"zero_points must be in {lowest}..{highest}, got "
                f"{grid.zero_points.max():.0f}; the file is damaged"
            )


class ScalarQuantizer:
    """Quantizes weights to evenly spaced levels.

    Parameters
    ----------
    config : ScalarConfig, optional
    fields
        Fields of `ScalarConfig`, in place of those of `config`.

    Examples
    --------
    >>> quantizer = ScalarQuantizer(bits=4)
    >>> q = quantizer.encode(np.array([[0.7, -0.2, 0.04], [0.0, 0.0, 0.0]]))
    >>> q.codes.tolist()
    [[7, -2, 0], [0, 0, 0]]
    >>> q.dequantize().round(6).tolist()
    [[0.7, -0.2, 0.0], [0.0, 0.0, 0.0]]
    """

    def __init__(self, config: ScalarConfig | None = None, /, **fields: Any) -> None:
        self.config = replace(config or ScalarConfig(), **fields)

    def fit(self, weight: Any, *, hessian: Any = None, transposed: bool = False) -> UniformGrid:
        """The grid for a weight.

        Parameters
        ----------
        weight : as `quant.base.matrix.as_matrix` takes it
        hessian : (C, C) or its diagonal (C,), float; for clip="hessian" alone
        transposed : bool
            Whether the weight is stored (in, out).

        Raises
        ------
        ValueError
            If the weight is no finite matrix, or the Hessian missing, needless or of another kind.
        """
        matrix, _ = as_matrix(weight, transposed=transposed)
        return self._fit(matrix, hessian)

    def encode(
        self,
        weight: Any,
        fitted: UniformGrid | None = None,
        *,
        hessian: Any = None,
        transposed: bool = False,
    ) -> QuantizedTensor:
        """The weight quantized, on the grid that `fit` gave, or else on one of its own.

        Raises
        ------
        ValueError
            As `fit`; and if `fitted` is no grid of this configuration for this shape.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        if fitted is not None:
            self._check_fitted(fitted, matrix.shape)
        grid = fitted or self._fit(matrix, hessian)
        return QuantizedTensor(
            codes=grid.encode(matrix),
            code_bits=self.config.bits,
            arrays=self.config.arrays(grid),
            layout=layout,
            config=self.config,
        )

    def decode(self, q: QuantizedTensor) -> Any:
        """The weight again: ``q.dequantize()``."""
        return q.dequantize()

    def _fit(self, matrix: Matrix, hessian: Any) -> UniformGrid:
        return self.config.fit(
            matrix, read_column_weights(hessian, self.config.clip, matrix.shape[1])
        )

    def _check_fitted(self, fitted: UniformGrid, shape: tuple[int, int]) -> None:
        """Raise ValueError unless the grid comes back from what is stored of it."""
        config = self.config
        is_alike = (
            (fitted.lowest, fitted.highest) == code_range(config.bits, config.symmetric)
            and fitted.scales.shape == config.scales_shape(shape)
            and min(fitted.group_size, shape[1]) == config.columns_per_scale(shape[1])
        )
        if is_alike:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite steps are not alike
                arrays = config.arrays(fitted)
            zero_points = arrays.get("zero_points", np.zeros_like(fitted.zero_points))
            is_alike = np.array_equal(arrays["scales"], fitted.scales)
            is_alike = is_alike and np.array_equal(zero_points, fitted.zero_points)
        if not is_alike:
            raise ValueError(
                "fitted must be a grid of this configuration and shape, got codes "
                f"{fitted.lowest}..{fitted.highest} and scales of shape {fitted.scales.shape} for "
                f"{config} and {shape}; fit it with this quantizer"
            )


def rtn(
    weight: Any,
    bits: int = 6,
    clip: str = "sd:12.85",
    per: str = "row",
    *,
    hessian: Any = None,
    transposed: bool = False,
    **fields: Any,
) -> QuantizedTensor:
    """The weight rounded to the nearest levels; `fields` are further ones of `ScalarConfig`."""
    quantizer = ScalarQuantizer(bits=bits, clip=clip, per=per, **fields)
    return quantizer.encode(weight, hessian=hessian, transposed=transposed)


def quantize_int6_symmetric(w2d: Any) -> tuple[Any, Any]:
    """(codes (R, C) int8 in -31..31, scales (R,) float32): weights are about codes * scales.

    Each row reaches its largest weight; a row of zeros has scale 1. Torch in, torch out.
    """
    return _codes_and_scales(w2d, 6)


def quantize_int8_symmetric(w2d: Any) -> tuple[Any, Any]:
    """(codes (R, C) int8 in -127..127, scales (R,) float32): weights are about codes * scales.

    Each row reaches its largest weight; a row of zeros has scale 1. Torch in, torch out.
    """
    return _codes_and_scales(w2d, 8)


def _codes_and_scales(w2d: Any, bits: int) -> tuple[Any, Any]:
    q = ScalarQuantizer(bits=bits).encode(w2d)
    codes, scales = q.codes, q.arrays["scales"][:, 0]
    if not q.layout.is_torch:
        return codes, scales
    import torch

    return torch.from_numpy(codes), torch.from_numpy(scales)
