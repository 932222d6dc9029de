"""Scalar quantization: round each weight to one of evenly spaced levels."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from quant.base.config import QuantizedTensor, check_bool, check_choice, short
from quant.numerics.clipping import code_range, fit_uniform, parse_clip
from quant.numerics.grid import UniformGrid
from quant.numerics.hessian import check_hessian
from quant.quantizers.grid_config import GridConfig, check_column_weights
from quant.types import Array, Float64, Matrix


@dataclass(frozen=True, kw_only=True)
class ScalarConfig(GridConfig, kind="scalar"):
    """Round to evenly spaced levels.

    `fit` returns a `quant.numerics.grid.UniformGrid`. With clip="hessian", `fit` and `encode` take
    either a Hessian or column weights; with any other clip rule, neither.

    Attributes
    ----------
    bits : int in 2..8
        Symmetric codes are -(2^(bits-1)-1)..2^(bits-1)-1, int8; affine codes 0..2^bits-1, uint8.
    symmetric : bool
        Whether the levels are symmetric about 0; else a zero point is stored for each scale. 0 is
        a level in both cases.
    per : "tensor", "row", "column" or "group"
        Weights that share a scale; a group is `group_size` columns of one row.
    group_size : int >= 1, or None
        Given if and only if `per` is "group"; the last group of a row may be shorter.
    clip : "absmax", "mse", "hessian" or "sd:K"
        How far the levels reach; see `quant.numerics.clipping.fit_uniform`.
    scale_dtype : "float32" or "float16"
        Dtype of stored scales, to which they are rounded before use.

    Examples
    --------
    >>> q = ScalarConfig(bits=4).encode(np.array([[0.7, -0.2, 0.04], [0.0, 0.0, 0.0]]))
    >>> q.codes.tolist()
    [[7, -2, 0], [0, 0, 0]]
    >>> q.dequantize().round(6).tolist()
    [[0.7, -0.2, 0.0], [0.0, 0.0, 0.0]]
    """

    bits: int = 6
    symmetric: bool = True
    per: str = "row"
    group_size: int | None = None
    clip: str = "absmax"
    scale_dtype: str = "float32"

    def __post_init__(self) -> None:
        self.check_ints(bits=(2, 8))
        check_bool(self.symmetric, "symmetric")
        check_choice(self.per, "per", ("tensor", "row", "column", "group"))
        if self.per == "group":
            self.check_ints(group_size=(1, 2**31 - 1))
        elif self.group_size is not None:
            raise ValueError(
                f"group_size goes with per='group', got {short(self.group_size)} with "
                f"per={self.per!r}; leave it out"
            )
        parse_clip(self.clip)
        check_choice(self.scale_dtype, "scale_dtype", ("float32", "float16"))

    @property
    def needs_hessian(self) -> bool:
        """Whether the clip rule weights errors by the diagonal of a Hessian."""
        return self.clip == "hessian"

    @property
    def uses_column_weights(self) -> bool:
        """Whether the clip rule compares ranges by their errors."""
        return self.needs_hessian or self.clip.startswith("sd")

    def read_weights(
        self, hessian: Any, column_weights: Any, shape: tuple[int, int]
    ) -> Float64 | None:
        """Return the column weights (C,) that the clip rule uses, or None if it uses none."""
        if not self.needs_hessian:
            for name, value in (("hessian", hessian), ("column_weights", column_weights)):
                if value is not None:
                    raise ValueError(
                        f"{name} goes with clip='hessian', got it with clip={self.clip!r}; leave "
                        "it out"
                    )
            return None
        if (hessian is None) == (column_weights is None):
            got = "neither" if hessian is None else "both"
            raise ValueError(
                f"clip='hessian' needs a hessian or column_weights, got {got}; give one of them"
            )
        if hessian is not None:
            return np.diagonal(check_hessian(hessian, shape[1])).copy()
        return check_column_weights(column_weights, shape[1:])

    def fit_grid(self, matrix: Matrix, column_weights: Float64 | None = None) -> UniformGrid:
        """Fit a grid to a matrix (R, C); column_weights (C,) weight the errors of the clip rule."""
        return fit_uniform(
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
        """Return ``scales`` and, if the grid is affine, ``zero_points`` uint8."""
        arrays: dict[str, Array] = {"scales": grid.scales.astype(self.scale_dtype)}
        if not self.symmetric:
            arrays["zero_points"] = grid.zero_points.astype(np.uint8)
        return arrays

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> UniformGrid:
        """Return the grid of stored arrays, for a matrix (R, C)."""
        scales = np.ascontiguousarray(arrays["scales"], np.float32)
        zero_points = np.zeros_like(scales)
        if not self.symmetric:
            zero_points = arrays["zero_points"].astype(np.float32)
        lowest, highest = code_range(self.bits, self.symmetric)
        return UniformGrid(
            scales=scales,
            zero_points=zero_points,
            lowest=lowest,
            highest=highest,
            group_size=self.columns_per_scale(shape[1]),
        )

    def clipped(self, matrix: Matrix, arrays: Mapping[str, Array]) -> float:
        """Return the share of a matrix (R, C) that lies beyond the levels of these arrays."""
        return self.grid(arrays, matrix.shape).clipped(matrix)

    def scales_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, groups) of the scales of a matrix (R, C)."""
        rows, columns = shape
        groups = -(-columns // self.group_size) if self.group_size else 1
        return {"tensor": (1, 1), "row": (rows, 1), "column": (1, columns)}.get(
            self.per, (rows, groups)
        )

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Return the bits of packed codes and of all arrays, per weight of a matrix (R, C)."""
        codes = (prod(shape) * self.bits + 7) // 8
        bytes_a_scale = np.dtype(self.scale_dtype).itemsize + (not self.symmetric)
        return 8 * (codes + bytes_a_scale * prod(self.scales_shape(shape))) / prod(shape)

    def columns_per_scale(self, columns: int) -> int:
        """Return the number of columns that share a scale, of a matrix of so many columns."""
        return 1 if self.per == "column" else min(self.group_size or columns, columns)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays."""
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
        dtypes = {"scales": self.scale_dtype}
        if not self.symmetric:
            dtypes["zero_points"] = "uint8"
        got = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
        expected = {name: (dtype, self.scales_shape(shape)) for name, dtype in dtypes.items()}
        if got != expected:
            raise ValueError(f"arrays must be {expected}, got {got}; the file is damaged")
        grid = self.grid(arrays, shape)
        if grid.zero_points.max() > highest:
            raise ValueError(
                f"zero_points must be in {lowest}..{highest}, got {grid.zero_points.max():.0f}; "
                "the file is damaged"
            )


def rtn(
    weight: Any,
    bits: int = 6,
    clip: str = "sd:12.85",
    per: str = "row",
    *,
    hessian: Any = None,
    column_weights: Any = None,
    transposed: bool = False,
    **settings: Any,
) -> QuantizedTensor:
    """Round a weight to the nearest levels.

    `bits`, `clip`, `per` and `settings` are those of `ScalarConfig`; the other arguments those of
    `ScalarConfig.encode`.
    """
    config = ScalarConfig(bits=bits, clip=clip, per=per, **settings)
    return config.encode(weight, hessian, column_weights=column_weights, transposed=transposed)


def quantize_int6_symmetric(w2d: Any) -> tuple[Any, Any]:
    """Return (codes (R, C) int8 in -31..31, scales (R,) float32); weights ≈ codes * scales.

    The levels of a row reach its largest magnitude (absmax, not "sd:K" as in the recipe "int6"). A
    row of zeros has scale 1. Tensors of torch if the weight is one.
    """
    return _codes_and_scales(w2d, 6)


def quantize_int8_symmetric(w2d: Any) -> tuple[Any, Any]:
    """Return (codes (R, C) int8 in -127..127, scales (R,) float32); weights ≈ codes * scales.

    The levels of a row reach its largest magnitude. A row of zeros has scale 1. Tensors of torch if
    the weight is one.
    """
    return _codes_and_scales(w2d, 8)


def _codes_and_scales(w2d: Any, bits: int) -> tuple[Any, Any]:
    q = ScalarConfig(bits=bits).encode(w2d)
    codes, scales = q.codes, q.arrays["scales"][:, 0]
    if not q.layout.is_torch:
        return codes, scales
    import torch

    return torch.from_numpy(codes), torch.from_numpy(scales)
