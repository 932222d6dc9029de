"""GridConfig: the base class of quantizers that round each weight to a level of a grid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quant.base.config import Config, QuantizedTensor
from quant.base.matrix import Layout
from quant.numerics.grid import Grid, is_same
from quant.numerics.hessian import as_array
from quant.types import Array, Float64, Matrix


@dataclass(frozen=True, kw_only=True)
class GridConfig(Config):
    """A quantizer with one code a weight, rounded to the nearest level of a grid.

    A subclass defines `fit_grid`, `arrays` and `grid`; GPTQ rounds to its grids as well.
    """

    def fit_grid(self, matrix: Matrix, column_weights: Float64 | None = None) -> Any:
        """Fit a grid to a matrix (R, C); column_weights (C,) weight the squared errors."""
        raise NotImplementedError

    def arrays(self, grid: Any) -> dict[str, Array]:
        """Return the arrays that a grid is stored as."""
        raise NotImplementedError

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Any:
        """Return the grid of stored arrays, for a matrix (R, C)."""
        raise NotImplementedError

    @property
    def uses_column_weights(self) -> bool:
        """Whether `fit_grid` uses column weights where there are any, as GPTQ has them."""
        return self.needs_hessian

    def read_weights(
        self, hessian: Any, column_weights: Any, shape: tuple[int, int]
    ) -> Float64 | None:
        """Return the column weights that `fit_grid` uses; ValueError if the inputs are invalid."""
        raise NotImplementedError

    def fit_matrix(self, matrix: Matrix, hessian: Any = None, *, column_weights: Any = None) -> Any:
        """Return the grid for a matrix (R, C); see `Config.fit`."""
        return self.fit_grid(matrix, self.read_weights(hessian, column_weights, matrix.shape))

    def encode_matrix(
        self,
        matrix: Matrix,
        layout: Layout,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
    ) -> QuantizedTensor:
        """Quantize a matrix (R, C); see `Config.encode`."""
        if fitted is None:
            grid = self.fit_matrix(matrix, hessian, column_weights=column_weights)
        else:
            self.check_fitted(fitted, matrix.shape, hessian=hessian, column_weights=column_weights)
            grid = fitted
        return QuantizedTensor(
            codes=grid.encode(matrix),
            code_bits=grid.code_bits,
            arrays=self.arrays(grid),
            layout=layout,
            config=self,
        )

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to the levels of the grid, a matrix (R, C) float32."""
        matrix: Matrix = self.grid(arrays, shape).decode(codes)
        return matrix

    def check_fitted(self, fitted: Any, shape: tuple[int, int], **unused: Any) -> None:
        """Raise ValueError unless a grid equals the grid decoded from its own stored arrays.

        `unused` are inputs for fitting, which must be None.
        """
        for name, value in unused.items():
            if value is not None:
                raise ValueError(f"{name} is used to fit a grid, got it with fitted; leave it out")
        is_stored = False
        if isinstance(fitted, Grid):
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # infinite scales are refused
                    arrays = self.arrays(fitted)
                self.check(fitted.encode(np.zeros(shape, np.float32)), arrays, shape)
                is_stored = is_same(self.grid(arrays, shape), fitted, shape[1])
            except (ValueError, AttributeError):  # another shape or settings; another class
                pass
        if not is_stored:
            raise ValueError(
                f"fitted must be a grid of {self} for a matrix of shape {shape}, got "
                f"{type(fitted).__name__} of other settings or another shape; use what fit returns"
            )


def check_column_weights(column_weights: Any, *shapes: tuple[int, ...]) -> Float64:
    """Return float64 weights of errors; ValueError unless finite, >= 0, and one above 0."""
    weights = np.asarray(as_array(column_weights), np.float64)
    if weights.shape not in shapes:
        raise ValueError(
            f"column_weights must be of shape {' or '.join(map(str, shapes))}, got "
            f"{weights.shape}; give one for each column"
        )
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
        raise ValueError(
            f"column_weights must be finite and >= 0, and one above 0, got {weights.min()}.."
            f"{weights.max()}; check that the calibration reached this layer"
        )
    return weights
