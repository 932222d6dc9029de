"""Solve GPTQ: choose codes block by block of columns, in visiting order.

The weights are divided into blocks of rows, which do not depend on each other, to bound the memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from quant.kernels.gptq import solve_codebook, solve_uniform
from quant.numerics.grid import Grid, UniformGrid
from quant.numerics.hessian import LdlFactor
from quant.types import Array, Indices, Matrix

Fit = Callable[[Matrix, Indices], UniformGrid]

ROWS = 1024  # of a block
ALL = slice(None)


class RowBlock:
    """Rows of a weight while their codes are chosen.

    Matrices are transposed, (C, n): one row for each column of the weight, in visiting order.

    Parameters
    ----------
    matrix : (n, C) float32
        Rows of the weight.
    factor : LdlFactor
    block_size : int
        Columns between two matrix products that pass errors on to all later columns.
    dtype : int8, uint8 or int16
        Dtype of the codes.

    Attributes
    ----------
    codes : (C, n)
    loss : float
        ``tr(E H Eᵀ)`` of the errors E of the columns solved so far.
    """

    def __init__(
        self, matrix: Matrix, factor: LdlFactor, block_size: int, dtype: type[np.integer[Any]]
    ) -> None:
        self._factor = factor
        self._weights = np.ascontiguousarray(matrix.T)[factor.order]
        self._compensated = self._weights.astype(np.float64)  # plus feedback of errors so far
        self._errors = np.empty((min(block_size, len(self._weights)), len(matrix)))
        self.codes = np.empty(self._weights.shape, dtype)
        self.loss = 0.0

    def solve(self, grid: Grid, groups: Indices, first: int, last: int, rows: slice = ALL) -> None:
        """Choose the codes of columns first..last - 1; all columns before them are solved.

        groups (C,): index of the scales of each column; rows: those of the grid that apply here.
        """
        feedback, pivots = self._factor.feedback, self._factor.pivots
        kernel: Callable[..., float] = solve_codebook
        if isinstance(grid, UniformGrid):
            kernel = solve_uniform
        levels = kernel_levels(grid, rows)
        for start in range(first, last, len(self._errors)):
            stop = min(start + len(self._errors), last)
            self.loss += kernel(
                self._weights, self._compensated, feedback, pivots, groups, start, stop,
                self.codes, self._errors, *levels,
            )  # fmt: skip
            self._compensated[stop:] += feedback[stop:, start:stop] @ self._errors[: stop - start]

    def optimum(self, first: int, last: int) -> Matrix:
        """Return the least-squares optimum (n, last - first) of columns, given those before them.

        With D the feedback among these columns, it is W + D⁻¹ (compensated - W).
        """
        added = self._compensated[first:last] - self._weights[first:last]
        change = np.linalg.solve(self._factor.feedback[first:last, first:last], added)
        return np.ascontiguousarray((self._weights[first:last] + change).T, np.float32)


def solve(matrix: Matrix, factor: LdlFactor, grid: Grid, block_size: int) -> tuple[Array, float]:
    """Return (codes (R, C), loss) of a matrix (R, C) on a grid that fits it."""
    groups = factor.order // grid.group_size
    inverse_order = np.argsort(factor.order)
    codes: Array = np.empty(matrix.shape, grid.code_dtype)
    loss = 0.0
    for rows in row_blocks(len(matrix)):
        block = RowBlock(matrix[rows], factor, block_size, grid.code_dtype)
        block.solve(grid, groups, 0, len(groups), rows)
        codes[rows] = block.codes[inverse_order].T
        loss += block.loss
    return codes, loss


def solve_and_fit(
    matrix: Matrix, factor: LdlFactor, fit: Fit, group_size: int, block_size: int
) -> tuple[Array, float, UniformGrid]:
    """Return (codes (R, C), loss, grid), the grid of each group fitted when it is reached.

    A group is a run of columns in visiting order, and the codes are in visiting order too.

    fit : (weights (n, g) float32, their columns (g,)) -> grid with one scale for each row
    """
    columns = matrix.shape[1]
    one_group = np.zeros(columns, np.int64)  # each grid is that of one group
    codes, scales, zero_points, loss = [], [], [], 0.0
    for rows in row_blocks(len(matrix)):
        block = RowBlock(matrix[rows], factor, block_size, np.int16)
        grids = []
        for first in range(0, columns, group_size):
            last = min(first + group_size, columns)
            grids.append(fit(block.optimum(first, last), factor.order[first:last]))
            block.solve(grids[-1], one_group, first, last)
        codes.append(block.codes.T.astype(grids[0].code_dtype))
        scales.append(np.hstack([grid.scales for grid in grids]))
        zero_points.append(np.hstack([grid.zero_points for grid in grids]))
        loss += block.loss
    grid = replace(
        grids[0],
        scales=np.vstack(scales),
        zero_points=np.vstack(zero_points),
        group_size=min(group_size, columns),
    )
    return np.vstack(codes), loss, grid


def row_blocks(n_rows: int) -> Iterator[slice]:
    """Yield slices of at most `ROWS` rows."""
    return (slice(start, start + ROWS) for start in range(0, n_rows, ROWS))


def kernel_levels(grid: Grid, rows: slice) -> tuple[Any, ...]:
    """Return the levels of these rows as the kernels take them: scales (G, n or 1) first."""
    scales = np.ascontiguousarray(rows_or_shared(grid.scales, rows).T)
    if isinstance(grid, UniformGrid):
        zero_points = np.ascontiguousarray(rows_or_shared(grid.zero_points, rows).T)
        return scales, zero_points, np.float32(grid.lowest), np.float32(grid.highest)
    return scales, grid.codebook


def rows_or_shared(scales: Matrix, rows: slice) -> Matrix:
    """Return the scales of these rows, (n, G), or (1, G) if all rows share them."""
    return scales[rows] if len(scales) > 1 else scales
