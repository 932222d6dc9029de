"""The walk of GPTQ: block by block over the columns of a weight, in visiting order."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.kernels.gptq import walk_codebook, walk_uniform
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.numerics.hessian import Factor

Array = NDArray[Any]
Matrix = NDArray[np.float32]
Grid = UniformGrid | CodebookGrid
Fit = Callable[[Matrix, NDArray[np.int64]], UniformGrid]

ROWS = 1024  # of a weight at once: they do not depend on each other, and bound the memory


class Strip:
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
        self, matrix: Matrix, factor: Factor, block_size: int, dtype: type[np.integer[Any]]
    ) -> None:
        self._factor = factor
        self._weights = np.ascontiguousarray(matrix.T)[factor.order]
        self._asked = self._weights.astype(np.float64)
        self._errors = np.empty((min(block_size, len(self._weights)), len(matrix)))
        self.codes = np.empty(self._weights.shape, dtype)
        self.loss = 0.0

    def walk(self, grid: Grid, groups: NDArray[np.int64], first: int, last: int) -> None:
        """Choose the codes of columns first..last - 1; those before have been chosen.

        groups (C,): which scales of the grid belong to each column.
        """
        drift = self._factor.drift
        kernel: Callable[..., float] = walk_codebook
        levels: tuple[Any, ...]
        if isinstance(grid, UniformGrid):
            kernel = walk_uniform
            bounds = np.float32(grid.lowest), np.float32(grid.highest)
            levels = turned(grid.steps), turned(grid.zeros), *bounds
        else:
            levels = turned(grid.scales), grid.codebook
        for start in range(first, last, len(self._errors)):
            stop = min(start + len(self._errors), last)
            self.loss += kernel(
                self._weights, self._asked, drift, self._factor.pivots, groups, start, stop,
                self.codes, self._errors, *levels,
            )  # fmt: skip
            self._asked[stop:] += drift[stop:, start:stop] @ self._errors[: stop - start]

    def wanted(self, first: int, last: int) -> Matrix:
        """(n, last - first): what columns should be if they may be anything and errors end here."""
        added = self._asked[first:last] - self._weights[first:last]
        # Each column's own error, minus what is added, undoes what has drifted to it.
        moved = np.linalg.solve(self._factor.drift[first:last, first:last], added)
        return np.ascontiguousarray((self._weights[first:last] + moved).T, np.float32)


def walk(matrix: Matrix, factor: Factor, grid: Grid, block_size: int) -> tuple[Array, float]:
    """(codes (R, C), loss) of a matrix (R, C) on a grid for it."""
    groups = factor.order // grid.group_size
    standing = np.argsort(factor.order)
    dtype = np.int8 if isinstance(grid, UniformGrid) and grid.lowest < 0 else np.uint8
    codes: Array = np.empty(matrix.shape, dtype)
    loss = 0.0
    for rows in strips(len(matrix)):
        strip = Strip(matrix[rows], factor, block_size, dtype)
        strip.walk(grid_rows(grid, rows), groups, 0, len(groups))
        codes[rows] = strip.codes[standing].T
        loss += strip.loss
    return codes, loss


def walk_and_fit(
    matrix: Matrix, factor: Factor, fit: Fit, group_size: int, block_size: int
) -> tuple[Array, float, UniformGrid]:
    """(codes (R, C), loss, grid): a group is a run of columns in visiting order, as are the codes.

    fit : (weights (n, g) float32, which columns of the weight) -> grid with a step for each row
    """
    columns = matrix.shape[1]
    alike = np.zeros(columns, np.int64)  # one group at a time
    codes, steps, zeros, loss = [], [], [], 0.0
    for rows in strips(len(matrix)):
        strip = Strip(matrix[rows], factor, block_size, np.int16)
        grids = []
        for first in range(0, columns, group_size):
            last = min(first + group_size, columns)
            grids.append(fit(strip.wanted(first, last), factor.order[first:last]))
            strip.walk(grids[-1], alike, first, last)
        codes.append(strip.codes.T.astype(np.int8 if grids[0].lowest < 0 else np.uint8))
        steps.append(np.hstack([grid.steps for grid in grids]))
        zeros.append(np.hstack([grid.zeros for grid in grids]))
        loss += strip.loss
    grid = replace(
        grids[0],
        steps=np.vstack(steps),
        zeros=np.vstack(zeros),
        group_size=min(group_size, columns),
    )
    return np.vstack(codes), loss, grid


def strips(n_rows: int) -> Iterator[slice]:
    """The rows, strip by strip."""
    return (slice(start, start + ROWS) for start in range(0, n_rows, ROWS))


def grid_rows(grid: Grid, rows: slice) -> Grid:
    """The grid for these rows."""
    if isinstance(grid, UniformGrid):
        return replace(grid, steps=some(grid.steps, rows), zeros=some(grid.zeros, rows))
    return replace(grid, scales=some(grid.scales, rows))


def some(scales: Matrix, rows: slice) -> Matrix:
    """Scales (R or 1, G) of these rows."""
    return scales[rows] if len(scales) > 1 else scales


def turned(scales: Matrix) -> Matrix:
    """(G, R or 1) of (R or 1, G)."""
    return np.ascontiguousarray(scales.T)
