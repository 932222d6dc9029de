"""Lloyd-Max quantization: round each weight to a value of a codebook fitted to the tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from quant.base.config import check_choice
from quant.io.validation import check_codebook, check_codes, check_names, check_reach, check_scales
from quant.numerics.grid import CodebookGrid
from quant.numerics.group_scales import (
    DTYPES,
    RULES,
    make_scales,
    spread,
    stored_scales,
    used_scales,
)
from quant.numerics.lloyd_max_1d import METHODS, NF4, lloyd_max
from quant.quantizers.grid_config import GridConfig, check_column_weights
from quant.types import Array, Float64, Matrix


@dataclass(frozen=True, kw_only=True)
class LloydMaxConfig(GridConfig, kind="lloyd-max"):
    """Round to the values of one codebook for the tensor, with a scale for each group of a row.

    `fit` returns a `quant.numerics.grid.CodebookGrid`. `fit` and `encode` take column weights, (C,)
    or one for each weight (R, C), but no Hessian.

    Attributes
    ----------
    k : int in 1..256
        Values of the codebook.
    table : str
        "lloyd": fitted. "nf4": fixed, 16 fractions of the largest magnitude of a group, not stored.
    method : str
        How "lloyd" is fitted: "exact" or "iterative"; see `quant.numerics.lloyd_max_1d.lloyd_max`.
    scale : str
        Scale of a group: "absmax", the largest magnitude; "rms", the root mean square; "none".
    group_size : int >= 1, optional
        Columns that share a scale; a whole row if absent.
    scale_dtype : str
        Dtype of stored scales: "float16" or "float32".

    Examples
    --------
    >>> config = LloydMaxConfig(k=3, scale="none")
    >>> q = config.encode(np.array([[0.5, -0.25, 0.0], [0.0, 0.5, 0.0]]))
    >>> q.codes.tolist()
    [[2, 0, 1], [1, 2, 1]]
    >>> q.dequantize().tolist()
    [[0.5, -0.25, 0.0], [0.0, 0.5, 0.0]]
    """

    k: int = 16
    table: str = "lloyd"
    method: str = "exact"
    scale: str = "absmax"
    group_size: int | None = None
    scale_dtype: str = "float32"

    def __post_init__(self) -> None:
        self.check_ints(k=(1, 256))
        check_choice(self.table, "table", ("lloyd", "nf4"))
        check_choice(self.method, "method", METHODS)
        check_choice(self.scale, "scale", RULES)
        check_choice(self.scale_dtype, "scale_dtype", DTYPES)
        if self.group_size is not None:
            self.check_ints(group_size=(1, 2**31 - 1))
        if self.table == "nf4" and (self.k, self.scale) != (16, "absmax"):
            raise ValueError(
                f"nf4 has k=16 and scale='absmax', got k={self.k} and scale={self.scale!r}; "
                "correct them"
            )
        if self.scale == "none" and self.group_size is not None:
            raise ValueError(
                f"group_size goes with a scale, got {self.group_size} with scale='none'; leave it "
                "out"
            )

    def read_weights(
        self, hessian: Any, column_weights: Any, shape: tuple[int, int]
    ) -> Float64 | None:
        """Return column weights (C,) or (R, C), the largest 1, or None if there are none."""
        self.refuse(hessian=hessian)
        if column_weights is None:
            return None
        weights = check_column_weights(column_weights, shape[1:], shape)
        normalized: Float64 = weights / weights.max()
        return normalized

    def fit_grid(self, matrix: Matrix, column_weights: Float64 | None = None) -> CodebookGrid:
        """Fit a grid to a matrix (R, C); column_weights are (C,) or (R, C)."""
        columns = matrix.shape[1]
        group_size = self.columns_per_scale(columns)
        scales = make_scales(matrix, self.scale, group_size, self.scale_dtype)
        grid = CodebookGrid(codebook=NF4, scales=used_scales(scales), group_size=group_size)
        if self.table == "nf4":
            return grid
        codebook = np.zeros(1)  # the codebook of a matrix of zeros
        if scales.any():
            # The error of a quotient is weighted by the square of its scale.
            weights: Array | None = None if self.scale == "none" else scales.astype(np.float64) ** 2
            if weights is not None:
                matrix = np.divide(matrix, spread(grid.scales, group_size, columns))
                weights = np.broadcast_to(spread(weights, group_size, columns), matrix.shape)
            if column_weights is not None:
                squares = 1 if weights is None else weights
                weights = np.broadcast_to(column_weights * squares, matrix.shape)
            codebook = lloyd_max(matrix, self.k, weights=weights, method=self.method)
        return replace(grid, codebook=codebook.astype(np.float32))

    def arrays(self, grid: CodebookGrid) -> dict[str, Array]:
        """Return ``codebook`` if it is fitted, and ``scales`` if there are any."""
        arrays: dict[str, Array] = {}
        if self.table == "lloyd":
            arrays["codebook"] = grid.codebook
        if self.scale != "none":
            arrays["scales"] = stored_scales(grid.scales, self.scale_dtype)
        return arrays

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> CodebookGrid:
        """Return the grid of stored arrays, for a matrix (R, C)."""
        return CodebookGrid(
            codebook=arrays["codebook"] if self.table == "lloyd" else NF4,
            scales=used_scales(arrays.get("scales", np.ones((1, 1)))),
            group_size=self.columns_per_scale(shape[1]),
        )

    def columns_per_scale(self, columns: int) -> int:
        """Return the number of columns that share a scale, of a matrix of so many columns."""
        return min(self.group_size or columns, columns)

    def codes_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the codes, (R, C)."""
        return shape

    def reach(self, arrays: Mapping[str, Array]) -> float:
        """Return the largest magnitude that a decoded weight can have."""
        codebook = arrays["codebook"] if self.table == "lloyd" else NF4
        return float(np.abs(codebook).max()) * float(np.max(arrays.get("scales", 1)))

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to codebook value times scale, a matrix (R, C) float32; 0 where the scale is 0."""
        matrix = super().decode(codes, arrays, shape)
        if self.scale != "none" and not (stored := arrays["scales"]).all():
            is_zero = spread(stored == 0, self.columns_per_scale(shape[1]), shape[1])
            matrix[np.broadcast_to(is_zero, shape)] = 0
        return matrix

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays."""
        is_fitted, is_scaled = self.table == "lloyd", self.scale != "none"
        names = {"codebook": is_fitted, "scales": is_scaled}
        check_names(arrays, {name for name, is_stored in names.items() if is_stored})
        if is_scaled:
            groups = -(-shape[1] // self.columns_per_scale(shape[1]))
            check_scales(arrays["scales"], self.scale_dtype, (shape[0], groups))
        codebook = arrays["codebook"] if is_fitted else NF4
        check_codebook(codebook, self.k)
        check_reach(self.reach(arrays))
        if np.any(codebook[1:] < codebook[:-1]):
            raise ValueError(
                f"codebook must be ascending, got {codebook[0]}..{codebook[-1]} with a step down; "
                "the file is damaged"
            )
        check_codes(codes, shape, len(codebook))
