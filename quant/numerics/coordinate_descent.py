"""Coordinate descent after GPTQ: refit the scales and choose the codes again.

GPTQ chooses each column before the columns behind it are known. Cyclic coordinate descent lowers
the same loss, tr(E H Eᵀ), with all other columns known: one pass refits the scales of each row by
least squares, then chooses each code again, column by column. A change is made only if it lowers
the loss.

References
----------
Behdin, Acharya, Gupta, Song, Zhu, Keerthi and Mazumder 2023 (QuantEase),
https://arxiv.org/abs/2309.01885
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from quant.kernels.gptq import descend_codebook, descend_uniform
from quant.numerics.gptq_solver import kernel_levels, row_blocks
from quant.numerics.grid import CodebookGrid, Grid, UniformGrid
from quant.numerics.hessian import LdlFactor, in_order, mean_of_live
from quant.types import Array, Float64, Indices, Matrix

FLOAT32_MAX = float(np.finfo(np.float32).max)
SMALLEST = np.finfo(np.float32).smallest_subnormal  # replaces a scale of 0 while codes are chosen


def descend(
    matrix: Matrix,
    codes: Array,
    grid: Grid,
    groups: Indices,
    hessian: Float64,
    *,
    n_passes: int,
    block_size: int,
    scale_dtype: DTypeLike | None,
) -> tuple[Array, Grid, float]:
    """Return (codes (R, C), grid, loss) after at most `n_passes` passes; fewer at a fixed point.

    Parameters
    ----------
    matrix, codes : (R, C)
        Columns in visiting order, as in all of these arrays.
    grid : Grid
        Its scales are refitted if `scale_dtype` is given; each row must then have its own.
    groups : (C,) int64
        Index of the scales of each column.
    hessian : (C, C) float64
        From `damped_hessian`.
    n_passes : int
    block_size : int
        Columns between two matrix products that update the gradient.
    scale_dtype : dtype, optional
        Dtype of stored scales.
    """
    new_codes = np.empty_like(codes)
    scales, loss = [], 0.0
    for rows in row_blocks(len(matrix)):
        block = RowDescent(matrix[rows], codes[rows], grid, rows, groups, hessian)
        for _ in range(n_passes):
            is_refitted = scale_dtype is not None and block.refit(scale_dtype)
            if not block.recode(block_size) and not is_refitted:
                break
        new_codes[rows] = block.codes.T
        scales.append(block.scales.T)
        loss += block.loss()
    if scale_dtype is not None:
        grid = replace(grid, scales=np.ascontiguousarray(np.vstack(scales)))
    return new_codes, grid, loss


def damped_hessian(hessian: Float64, factor: LdlFactor) -> Float64:
    """Return the Hessian that was factored, (C, C) in visiting order: damped, 0 at dead columns."""
    order, dead = factor.order, factor.dead
    damped = in_order(hessian, order)
    added = factor.damp * mean_of_live(np.diagonal(hessian))
    damped[np.diag_indices(len(dead))] += np.where(dead[order], 0.0, added)
    return damped


def dtype_of_scales(arrays: dict[str, Array], n_rows: int) -> np.dtype[Any] | None:
    """Return the dtype of stored scales if each of R rows has its own, else None."""
    scales = arrays.get("scales")
    return None if scales is None or len(scales) != n_rows else scales.dtype


class RowDescent:
    """Rows of a quantized weight during coordinate descent.

    Matrices are transposed, (C, n): one row for each column of the weight, in visiting order. A
    level is a unit times a scale; a unit is ``code - zero_point``, or a value of the codebook.

    Parameters
    ----------
    matrix, codes : (n, C)
    grid : Grid
        Of the whole weight.
    rows : slice
        The rows of the weight that these are.
    groups, hessian : as in `descend`

    Attributes
    ----------
    codes : (C, n)
    scales : (G, n or 1) float32
    """

    def __init__(
        self,
        matrix: Matrix,
        codes: Array,
        grid: Grid,
        rows: slice,
        groups: Indices,
        hessian: Float64,
    ) -> None:
        self._weights = np.ascontiguousarray(matrix.T)
        self.codes = codes.T.copy(order="C")
        self._grid, self._groups, self._hessian = grid, groups, hessian
        self._columns = np.arange(len(groups))
        self.scales, *self._levels = kernel_levels(grid, rows)
        self.scales = self.scales.copy()
        if isinstance(grid, UniformGrid):
            zero_points, *ends = self._levels
            self._reach = np.maximum(*(np.abs(np.float64(end) - zero_points) for end in ends))
        else:
            self._reach = np.full(self.scales.shape, np.abs(grid.codebook).max(), np.float64)
        self._gradient = hessian @ self._errors()  # half the derivative of the loss

    def loss(self) -> float:
        """Return ``tr(E H Eᵀ)``."""
        errors = self._errors()
        return float(np.vdot(errors, self._hessian @ errors))

    def recode(self, block_size: int) -> bool:
        """Choose each code again, column by column; return whether any changed."""
        kernel: Callable[..., int] = descend_codebook
        if isinstance(self._grid, UniformGrid):
            kernel = descend_uniform
        columns, rows = self.codes.shape
        deltas = np.empty((min(block_size, columns), rows))
        n_changed = 0
        for start in range(0, columns, len(deltas)):
            stop = min(start + len(deltas), columns)
            n = kernel(
                self._gradient, self._hessian, self._groups, start, stop, self.codes, deltas,
                self.scales, *self._levels,
            )  # fmt: skip
            if n:
                self._gradient += self._hessian[:, start:stop] @ deltas[: stop - start]
            n_changed += n
        return n_changed > 0

    def refit(self, dtype: DTypeLike) -> bool:
        """Refit the scales of each row, group by group; return whether any changed.

        Scales of least squares are rounded to `dtype`, and used where that lowers the loss.
        """
        is_changed = False
        for group in range(len(self.scales)):
            columns = np.flatnonzero(self._groups == group)
            units = self._units(columns)
            across, square, gradient = self._hessian, self._hessian, self._gradient
            is_all = len(columns) == len(square)
            if not is_all:
                across = across[:, columns]
                square, gradient = across[columns], gradient[columns]
            scales = self._least_squares(group, units, square, gradient, dtype)
            if (scales == self.scales[group]).all():
                continue
            deltas = (units * scales).astype(np.float64)
            deltas -= units * self.scales[group]
            added = across @ deltas
            change = 2 * gradient
            change += added if is_all else added[columns]
            change *= deltas
            is_lower = change.sum(axis=0) < 0
            added[:, ~is_lower] = 0
            self._gradient += added
            self.scales[group] = np.where(is_lower, scales, self.scales[group])
            is_changed |= bool(is_lower.any())
        return is_changed

    def _least_squares(
        self, group: int, units: Matrix, hessian: Float64, gradient: Float64, dtype: DTypeLike
    ) -> Matrix:
        """Return the rounded least-squares scales (n,) of a group of g columns.

        units (g, n); hessian (g, g) and gradient (g, n) of these columns. A row keeps its scale
        where the new one would not be a positive scale with finite levels.
        """
        products = hessian @ units.astype(np.float64)
        products *= units
        curvature = products.sum(axis=0)
        slope = np.multiply(units, gradient, out=products).sum(axis=0)
        old = self.scales[group]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # left out below
            scales = (old - slope / curvature).astype(np.float32).astype(dtype).astype(np.float32)
            is_valid = (scales > SMALLEST) & (scales * self._reach[group] <= FLOAT32_MAX)
        new: Matrix = np.where((curvature > 0) & is_valid, scales, old)
        return new

    def _units(self, columns: Indices) -> Matrix:
        codes = self.codes[columns]
        if isinstance(self._grid, CodebookGrid):
            return self._grid.codebook[codes]
        zero_points = self._levels[0]
        units: Matrix = codes.astype(np.float32)
        units -= zero_points[self._groups[columns]]
        return units

    def _errors(self) -> Float64:
        levels = self._units(self._columns)
        levels *= self.scales[self._groups]
        errors: Float64 = levels.astype(np.float64)
        errors -= self._weights
        return errors
