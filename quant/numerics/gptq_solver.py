"""The walk of GPTQ: block by block over the columns of a weight, in visiting order."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.kernels.gptq import solve_codebook, solve_uniform
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.numerics.hessian import LdlFactor

Array = NDArray[Any]
Matrix = NDArray[np.float32]
Grid = UniformGrid | CodebookGrid
Fit = Callable[[Matrix, NDArray[np.int64]], UniformGrid]

ROWS = 1024  # of a weight at once: they do not depend on each other, and bound the memory


class RowBlock:
    """Some rows of a weight, on their way.

    Matrices are (C, n): a row for each column of the weight, in visiting order.

    Parameters
    ----------
    matrix : (n, C) float32
        The rows.
    factor : Factor
    block_size : int
        Columns between two products that carry errors on.
    dtype : int8 or uint8
        Of codes.

    Attributes
    ----------
    codes : (C, n)
    loss : float
        ``tr(E H Eᵀ)`` of the columns walked so far.
    """

    def __init__(
        self, matrix: Matrix, factor: LdlFactor, block_size: int, dtype: type[np.integer[Any]]
    ) -> None:
        self._factor = factor
        self._weights = np.ascontiguousarray(matrix.T)[factor.order]
        self._compensated = self._weights.astype(np.float64)
        self._errors = np.empty((min(block_size, len(self._weights)), len(matrix)))
        self.codes = np.empty(self._weights.shape, dtype)
        self.loss = 0.0

    def solve(self, grid: Grid, groups: NDArray[np.int64], first: int, last: int) -> None:
        """Choose the codes of columns first..last - 1; those before have been chosen.

        groups (C,): which scales of the grid belong to each column.
        """
        feedback = self._factor.feedback
        kernel: Callable[..., float] = solve_codebook
        levels: tuple[Any, ...]
        if isinstance(grid, UniformGrid):
            kernel = solve_uniform
            bounds = np.float32(grid.lowest), np.float32(grid.highest)
            levels = transpose(grid.scales), transpose(grid.zero_points), *bounds
        else:
            levels = transpose(grid.scales), grid.codebook
        for start in range(first, last, len(self._errors)):
            stop = min(start + len(self._errors), last)
            self.loss += kernel(
                self._weights, self._compensated, feedback, self._factor.pivots, groups,
                start, stop, self.codes, self._errors, *levels,
            )  # fmt: skip
            self._compensated[stop:] += feedback[stop:, start:stop] @ self._errors[: stop - start]

    def optimum(self, first: int, last: int) -> Matrix:
        """(n, last - first): what columns should be if they may be anything and errors end here."""
        added = self._compensated[first:last] - self._weights[first:last]
        # Each column's own error, minus what is added, undoes what has drifted to it.
        moved = np.linalg.solve(self._factor.feedback[first:last, first:last], added)
        return np.ascontiguousarray((self._weights[first:last] + moved).T, np.float32)


def solve(matrix: Matrix, factor: LdlFactor, grid: Grid, block_size: int) -> tuple[Array, float]:
    """(codes (R, C), loss) of a matrix (R, C) on a grid for it."""
    groups = factor.order // grid.group_size
    inverse_order = np.argsort(factor.order)
    dtype = np.int8 if isinstance(grid, UniformGrid) and grid.lowest < 0 else np.uint8
    codes: Array = np.empty(matrix.shape, dtype)
    loss = 0.0
    for rows in row_blocks(len(matrix)):
        block = RowBlock(matrix[rows], factor, block_size, dtype)
        block.solve(grid_rows(grid, rows), groups, 0, len(groups))
        codes[rows] = block.codes[inverse_order].T
        loss += block.loss
    return codes, loss


def solve_and_fit(
    matrix: Matrix, factor: LdlFactor, fit: Fit, group_size: int, block_size: int
) -> tuple[Array, float, UniformGrid]:
    """(codes (R, C), loss, grid): a group is a run of columns in visiting order, as are the codes.

    fit : (weights (n, g) float32, which columns of the weight) -> grid with a step for each row
    """
    columns = matrix.shape[1]
    alike = np.zeros(columns, np.int64)  # one group at a time
    codes, scales, zero_points, loss = [], [], [], 0.0
    for rows in row_blocks(len(matrix)):
        block = RowBlock(matrix[rows], factor, block_size, np.int16)
        grids = []
        for first in range(0, columns, group_size):
            last = min(first + group_size, columns)
            grids.append(fit(block.optimum(first, last), factor.order[first:last]))
            block.solve(grids[-1], alike, first, last)
        codes.append(block.codes.T.astype(np.int8 if grids[0].lowest < 0 else np.uint8))
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
    """The rows, strip by strip."""
    return (slice(start, start + ROWS) for start in range(0, n_rows, ROWS))


def grid_rows(grid: Grid, rows: slice) -> Grid:
    """The grid for these rows."""
    if isinstance(grid, UniformGrid):
        return replace(
            grid,
            scales=rows_or_shared(grid.scales, rows),
            zero_points=rows_or_shared(grid.zero_points, rows),
        )
    return replace(grid, scales=rows_or_shared(grid.scales, rows))


def rows_or_shared(scales: Matrix, rows: slice) -> Matrix:
    """Scales (R or 1, G) of these rows."""
    return scales[rows] if len(scales) > 1 else scales


def transpose(scales: Matrix) -> Matrix:
    """(G, R or 1) of (R or 1, G)."""
    return np.ascontiguousarray(scales.T)
