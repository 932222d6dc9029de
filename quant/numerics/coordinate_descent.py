"""Sweeps after the walk of GPTQ: scales and codes again, now that all the others are known.

The walk chooses each column before those behind it are chosen. A sweep is cyclic descent on the
loss that the walk lowers, tr(E H Eᵀ): by the scales of each row, then by its codes, one column
after the other. It takes nothing that does not lower the loss.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from quant.kernels.gptq import descend_codebook, descend_uniform
from quant.numerics.gptq_solver import Grid, grid_rows, row_blocks, transpose
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.numerics.hessian import Float64, LdlFactor, mean_of_live

Array = NDArray[Any]
Matrix = NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max)
ZERO = np.finfo(np.float32).smallest_subnormal  # what a scale of 0 is while codes are sought


def descend(
    matrix: Matrix,
    codes: Array,
    grid: Grid,
    groups: NDArray[np.int64],
    hessian: Float64,
    *,
    n_passes: int,
    block_size: int,
    scale_dtype: DTypeLike | None,
) -> tuple[Array, Grid, float]:
    """(codes (R, C), grid, loss) after so many sweeps, or as many as change anything.

    Parameters
    ----------
    matrix, codes : (R, C)
        Columns in visiting order, as in all of these.
    grid : Grid
        Its scales are refitted if `scale_dtype` is given: then each row has its own.
    groups : (C,) int64
        Which scales of the grid belong to each column.
    hessian : (C, C) float64
        As `damped_hessian` gives it.
    sweeps, block_size : int
    scale_dtype : dtype, optional
        In which scales are stored.
    """
    codes_after = np.empty_like(codes)
    scales, loss = [], 0.0
    for rows in row_blocks(len(matrix)):
        block = RowDescent(matrix[rows], codes[rows], grid_rows(grid, rows), groups, hessian)
        for _ in range(n_passes):
            is_refitted = scale_dtype is not None and block.refit(scale_dtype)
            if not block.recode(block_size) and not is_refitted:
                break
        codes_after[rows] = block.codes.T
        scales.append(block.scales.T)
        loss += block.loss()
    if scale_dtype is not None:
        grid = with_scales(grid, np.ascontiguousarray(np.vstack(scales)))
    return codes_after, grid, loss


def damped_hessian(hessian: Float64, factor: LdlFactor) -> Float64:
    """What was factored, (C, C) float64 in visiting order: damped, and 0 at dead columns."""
    order, dead = factor.order, factor.dead
    damped = np.take(hessian[order], order, axis=1)
    added = factor.damp * mean_of_live(np.diagonal(hessian))
    damped[np.diag_indices(len(dead))] += np.where(dead[order], 0.0, added)
    return damped


def dtype_of_scales(arrays: dict[str, Array], n_rows: int) -> np.dtype[Any] | None:
    """In what the scales of stored arrays are, if they are and each of R rows has its own."""
    stored = arrays.get("scales")
    return None if stored is None or len(stored) != n_rows else stored.dtype


def with_scales(grid: Grid, scales: Matrix) -> Grid:
    """The grid with other scales (R or 1, G)."""
    if isinstance(grid, UniformGrid):
        return replace(grid, scales=scales)
    return replace(grid, scales=scales)


class RowDescent:
    """Some rows of a quantized weight.

    Matrices are (C, n): a row for each column of the weight, in visiting order. A level is a unit
    times a scale; the unit is code - zero, or a value of the codebook.

    Parameters
    ----------
    matrix, codes : (n, C)
    grid : Grid
        For these rows.
    groups, hessian : as `sweep` takes them

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
        groups: NDArray[np.int64],
        hessian: Float64,
    ) -> None:
        self._weights = np.ascontiguousarray(matrix.T)
        self.codes = codes.T.copy(order="C")
        self._grid, self._groups, self._hessian = grid, groups, hessian
        self._all = np.arange(len(groups))
        if isinstance(grid, UniformGrid):
            self.scales, self._zero_points = (
                transpose(grid.scales).copy(),
                transpose(grid.zero_points),
            )
            ends = np.float64(grid.lowest), np.float64(grid.highest)
            self._reach = np.maximum(*(np.abs(end - self._zero_points) for end in ends))
        else:
            self.scales = transpose(grid.scales).copy()
            self._reach = np.full(self.scales.shape, np.abs(grid.codebook).max(), np.float64)
        self._gradient = hessian @ self._errors()  # half the slope of the loss by each level

    def loss(self) -> float:
        """``tr(E H Eᵀ)``."""
        errors = self._errors()
        return float(np.vdot(errors, self._hessian @ errors))

    def recode(self, block_size: int) -> bool:
        """Choose each code anew, column after column; returns whether any changed."""
        kernel: Callable[..., int] = descend_codebook
        levels: tuple[Any, ...]
        if isinstance(self._grid, UniformGrid):
            kernel = descend_uniform
            bounds = np.float32(self._grid.lowest), np.float32(self._grid.highest)
            levels = self.scales, self._zero_points, *bounds
        else:
            levels = self.scales, self._grid.codebook
        columns, rows = self.codes.shape
        deltas = np.empty((min(block_size, columns), rows))
        n_changed = 0
        for start in range(0, columns, len(deltas)):
            stop = min(start + len(deltas), columns)
            n = kernel(
                self._gradient,
                self._hessian,
                self._groups,
                start,
                stop,
                self.codes,
                deltas,
                *levels,
            )
            if n:
                self._gradient += self._hessian[:, start:stop] @ deltas[: stop - start]
            n_changed += n
        return n_changed > 0

    def refit(self, dtype: DTypeLike) -> bool:
        """Refit the scales of each row by least squares, group after group; whether any changed.

        They are rounded to `dtype`, and taken where the loss is lower with what that gives.
        """
        is_changed = False
        for group in range(len(self.scales)):
            columns = np.flatnonzero(self._groups == group)
            units = self._units(columns)
            across = self._hessian if len(columns) == len(self._all) else self._hessian[:, columns]
            scales = self._refitted(group, units, across[columns], self._gradient[columns], dtype)
            if (scales == self.scales[group]).all():
                continue
            deltas = (units * scales).astype(np.float64) - units * self.scales[group]
            gradient = across @ deltas
            change = (deltas * (2 * self._gradient[columns] + gradient[columns])).sum(axis=0)
            is_lower = change < 0
            self._gradient += np.where(is_lower, gradient, 0)
            self.scales[group] = np.where(is_lower, scales, self.scales[group])
            is_changed |= bool(is_lower.any())
        return is_changed

    def _refitted(
        self, group: int, units: Matrix, hessian: Float64, gradient: Float64, dtype: DTypeLike
    ) -> Matrix:
        """(n,): of least squares for units (g, n), rounded; the old one where that is no scale.

        hessian (g, g) and pulls (g, n) of the group.
        """
        curvature = (units * (hessian @ units.astype(np.float64))).sum(axis=0)
        slope = (units * gradient).sum(axis=0)
        old = self.scales[group]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # left out below
            scales = (old - slope / curvature).astype(np.float32).astype(dtype).astype(np.float32)
            is_one = (curvature > 0) & (scales > ZERO) & (scales * self._reach[group] <= LARGEST)
        refitted: Matrix = np.where(is_one, scales, old)
        return refitted

    def _units(self, columns: NDArray[np.int64]) -> Matrix:
        codes = self.codes[columns]
        if isinstance(self._grid, CodebookGrid):
            return self._grid.codebook[codes]
        units: Matrix = codes.astype(np.float32) - self._zero_points[self._groups[columns]]
        return units

    def _errors(self) -> Float64:
        levels = self._units(self._all) * self.scales[self._groups]
        return levels.astype(np.float64) - self._weights
