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

from quant.kernels.gptq import sweep_codebook, sweep_uniform
from quant.numerics.gptq_solver import Grid, grid_rows, strips, turned
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.numerics.hessian import Factor, Float64, mean_of_live

Array = NDArray[Any]
Matrix = NDArray[np.float32]

LARGEST = float(np.finfo(np.float32).max)
ZERO = np.finfo(np.float32).smallest_subnormal  # what a scale of 0 is while codes are sought


def sweep(
    matrix: Matrix,
    codes: Array,
    grid: Grid,
    groups: NDArray[np.int64],
    hessian: Float64,
    *,
    sweeps: int,
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
    swept = np.empty_like(codes)
    scales, loss = [], 0.0
    for rows in strips(len(matrix)):
        strip = Strip(matrix[rows], codes[rows], grid_rows(grid, rows), groups, hessian)
        for _ in range(sweeps):
            is_refitted = scale_dtype is not None and strip.refit(scale_dtype)
            if not strip.recode(block_size) and not is_refitted:
                break
        swept[rows] = strip.codes.T
        scales.append(strip.scales.T)
        loss += strip.loss()
    if scale_dtype is not None:
        grid = with_scales(grid, np.ascontiguousarray(np.vstack(scales)))
    return swept, grid, loss


def damped_hessian(hessian: Float64, factor: Factor) -> Float64:
    """What was factored, (C, C) float64 in visiting order: damped, and 0 at dead columns."""
    order, dead = factor.order, factor.dead
    damped = np.take(hessian[order], order, axis=1)
    added = factor.damp * mean_of_live(np.diagonal(hessian))
    damped[np.diag_indices(len(dead))] += np.where(dead[order], 0.0, added)
    return damped


def dtype_of_scales(arrays: dict[str, Array], n_rows: int) -> np.dtype[Any] | None:
    """In what the scales of stored arrays are, if they are and each of R rows has its own."""
    stored = arrays.get("steps", arrays.get("scales"))
    return None if stored is None or len(stored) != n_rows else stored.dtype


def with_scales(grid: Grid, scales: Matrix) -> Grid:
    """The grid with other scales (R or 1, G)."""
    if isinstance(grid, UniformGrid):
        return replace(grid, steps=scales)
    return replace(grid, scales=scales)


class Strip:
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
            self.scales, self._zeros = turned(grid.steps).copy(), turned(grid.zeros)
            ends = np.float64(grid.lowest), np.float64(grid.highest)
            self._reach = np.maximum(*(np.abs(end - self._zeros) for end in ends))
        else:
            self.scales = turned(grid.scales).copy()
            self._reach = np.full(self.scales.shape, np.abs(grid.codebook).max(), np.float64)
        self._pulls = hessian @ self._errors()  # half the slope of the loss by each level

    def loss(self) -> float:
        """``tr(E H Eᵀ)``."""
        errors = self._errors()
        return float(np.vdot(errors, self._hessian @ errors))

    def recode(self, block_size: int) -> bool:
        """Choose each code anew, column after column; returns whether any changed."""
        kernel: Callable[..., int] = sweep_codebook
        levels: tuple[Any, ...]
        if isinstance(self._grid, UniformGrid):
            kernel = sweep_uniform
            bounds = np.float32(self._grid.lowest), np.float32(self._grid.highest)
            levels = self.scales, self._zeros, *bounds
        else:
            levels = self.scales, self._grid.codebook
        columns, rows = self.codes.shape
        moves = np.empty((min(block_size, columns), rows))
        n_changed = 0
        for start in range(0, columns, len(moves)):
            stop = min(start + len(moves), columns)
            n = kernel(
                self._pulls, self._hessian, self._groups, start, stop, self.codes, moves, *levels
            )
            if n:
                self._pulls += self._hessian[:, start:stop] @ moves[: stop - start]
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
            scales = self._refitted(group, units, across[columns], self._pulls[columns], dtype)
            if (scales == self.scales[group]).all():
                continue
            moves = (units * scales).astype(np.float64) - units * self.scales[group]
            pulls = across @ moves
            change = (moves * (2 * self._pulls[columns] + pulls[columns])).sum(axis=0)
            is_lower = change < 0
            self._pulls += np.where(is_lower, pulls, 0)
            self.scales[group] = np.where(is_lower, scales, self.scales[group])
            is_changed |= bool(is_lower.any())
        return is_changed

    def _refitted(
        self, group: int, units: Matrix, hessian: Float64, pulls: Float64, dtype: DTypeLike
    ) -> Matrix:
        """(n,): of least squares for units (g, n), rounded; the old one where that is no scale.

        hessian (g, g) and pulls (g, n) of the group.
        """
        curve = (units * (hessian @ units.astype(np.float64))).sum(axis=0)
        slope = (units * pulls).sum(axis=0)
        old = self.scales[group]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # left out below
            scales = (old - slope / curve).astype(np.float32).astype(dtype).astype(np.float32)
            is_one = (curve > 0) & (scales > ZERO) & (scales * self._reach[group] <= LARGEST)
        refitted: Matrix = np.where(is_one, scales, old)
        return refitted

    def _units(self, columns: NDArray[np.int64]) -> Matrix:
        codes = self.codes[columns]
        if isinstance(self._grid, CodebookGrid):
            return self._grid.codebook[codes]
        units: Matrix = codes.astype(np.float32) - self._zeros[self._groups[columns]]
        return units

    def _errors(self) -> Float64:
        levels = self._units(self._all) * self.scales[self._groups]
        return levels.astype(np.float64) - self._weights
