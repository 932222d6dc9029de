"""How far the levels reach: the step of each row, group, column or tensor, by a clip rule."""

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.matrix import to_float
from quant.kernels.grid import add_errors, add_powers
from quant.numerics.grid import UniformGrid

Matrix = NDArray[np.float32]
Doubles = NDArray[np.float64]

# The search for the least error: octaves by which a range is narrowed, one after the other, and
# whether they narrow its lower and its upper end. Outliers reach 60 standard deviations.
COARSE, ENDS, FINE = np.arange(1, 49) / 8, np.arange(-24, 25) / 8, np.arange(-7, 8) / 64
BOTH, LOWER, UPPER = (1, 1), (1, 0), (0, 1)
SYMMETRIC = [(COARSE, BOTH), (FINE, BOTH)]
AFFINE = [
    (COARSE, BOTH), (ENDS, UPPER), (ENDS, LOWER), (ENDS, UPPER), (ENDS, LOWER),
    (FINE, BOTH), (FINE, UPPER), (FINE, LOWER),
]  # fmt: skip


def parse_clip(clip: str) -> tuple[str, float]:
    """(name, K) of a clip rule: ("absmax", inf), ("mse", inf), ("hessian", inf) or ("sd", K)."""
    if clip in ("absmax", "mse", "hessian"):
        return clip, inf
    name, _, number = str(clip).partition(":")
    try:
        k = float(number)
    except ValueError:
        k = 0.0
    if name != "sd" or not 0 < k < inf:
        raise ValueError(
            f"clip must be absmax, mse, hessian or sd:K with a number K > 0, got {clip!r}; "
            "correct it"
        )
    return name, k


def fit_grid(
    matrix: Matrix,
    n_rows: int,
    group_size: int,
    *,
    bits: int,
    symmetric: bool,
    clip: str,
    scale_dtype: str,
    column_weights: Doubles | None = None,
) -> UniformGrid:
    """The grid that a clip rule gives a matrix (R, C).

    "absmax" reaches the largest weight; "sd:K" K standard deviations, of either sign about 0, or
    about the mean if the grid is affine; "mse" and "hessian" try ranges from that of absmax down to
    1/64 of it, 1.1 % apart in the end, and take the one of least squared error, each column's
    weighted by `costs`; the ends of an affine one also move by themselves. Where all weights are
    alike, sd reaches the largest; where all are 0, the step is 1. A range always holds 0.

    Parameters
    ----------
    n_rows : 1 or R
        Rows of steps: one for all rows together, or one for each.
    group_size : int
        Columns that share a step.
    scale_dtype : str
        Steps are rounded to it, and used as rounded; none to 0: to its least positive number.
    costs : (C,) float64 >= 0, optional
        All alike by default.
    """
    lowest, highest = code_range(bits, symmetric)
    name, k = parse_clip(clip)
    most = over_groups(np.maximum, matrix, n_rows, group_size)
    least = over_groups(np.minimum, matrix, n_rows, group_size)
    low, high = np.minimum(least, 0), np.maximum(most, 0)
    if name == "sd":
        mean, sd = moments(matrix, n_rows, group_size)
        about = 0.0 if symmetric else mean
        is_varied = least < most
        low = np.where(is_varied, np.minimum(about - k * sd, 0), low)
        high = np.where(is_varied, np.maximum(about + k * sd, 0), high)

    def grid(low: Doubles, high: Doubles) -> UniformGrid:
        span = np.maximum(-low, high) if symmetric else high - low
        scales = rounded(np.where(span > 0, span / highest, 1.0), scale_dtype)
        zero_points = np.zeros_like(scales)
        if not symmetric:
            zero_points = np.clip(np.rint(-low / scales), lowest, highest).astype(np.float32)
        return UniformGrid(
            scales=scales,
            zero_points=zero_points,
            lowest=lowest,
            highest=highest,
            group_size=group_size,
        )

    if name in ("mse", "hessian"):
        column_weights = np.ones(matrix.shape[1]) if column_weights is None else column_weights
        low, high = least_error(
            lambda low, high: errors(matrix, grid(low, high), column_weights), low, high, symmetric
        )
    return grid(low, high)


def errors(matrix: Matrix, grid: UniformGrid, column_weights: Doubles) -> Doubles:
    """Sum of cost * (w - decoded)^2 over each group, (R or 1, G) float64; costs (C,) float64."""
    found = np.zeros(grid.scales.shape)
    bounds = np.float32(grid.lowest), np.float32(grid.highest)
    add_errors(
        matrix, grid.scales, grid.zero_points, *bounds, grid.group_size, column_weights, found
    )
    return found


def least_error(
    errors: Callable[[Doubles, Doubles], Doubles], low: Doubles, high: Doubles, symmetric: bool
) -> tuple[Doubles, Doubles]:
    """(low, high) of least error, of the ranges given and those tried; each group on its own."""
    best = errors(low, high)
    for ranges, (moves_low, moves_high) in SYMMETRIC if symmetric else AFFINE:
        first_low, first_high = low, high
        for octaves in ranges:
            next_low = first_low * 2.0 ** -(octaves * moves_low)
            next_high = first_high * 2.0 ** -(octaves * moves_high)
            error = errors(next_low, next_high)
            is_better = error < best
            best = np.where(is_better, error, best)
            low = np.where(is_better, next_low, low)
            high = np.where(is_better, next_high, high)
    return low, high


def code_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """(lowest, highest) code: symmetric without the extra negative level, or from 0."""
    most = int(2 ** (bits - 1) - 1)
    return (-most, most) if symmetric else (0, 2 * most + 1)


def rounded(scales: Doubles, dtype: str) -> Matrix:
    """Steps as this dtype holds them, float32; what it would make 0 becomes its least positive."""
    info = np.finfo(dtype)
    if scales.max() > info.max:
        raise ValueError(
            f"scales must be finite as {dtype}, got {scales.max():.4g}; are these weights?"
        )
    return np.maximum(scales, info.smallest_subnormal).astype(dtype).astype(np.float32)


def over_groups(reduce: np.ufunc, matrix: Matrix, n_rows: int, group_size: int) -> Doubles:
    """The least or the greatest weight of each group, (R or 1, G) float64."""
    if n_rows == 1:
        matrix = reduce.reduce(matrix, axis=0, keepdims=True)
    starts = np.arange(0, matrix.shape[1], group_size)
    return np.asarray(reduce.reduceat(matrix, starts, axis=1), np.float64)


def moments(matrix: Matrix, n_rows: int, group_size: int) -> tuple[Doubles, Doubles]:
    """(mean, standard deviation) of each group, (R or 1, G) float64; of all weights, not n - 1."""
    rows, columns = matrix.shape
    starts = np.arange(0, columns, group_size)
    counts = np.diff(starts, append=columns) * (rows if n_rows == 1 else 1)
    means, sums, squares = np.zeros((3, n_rows, len(starts)))
    add_powers(matrix, means, group_size, sums, squares)
    means = sums / counts
    squares[:] = 0
    add_powers(matrix, means, group_size, sums, squares)
    return means, np.sqrt(squares / counts)


def read_column_weights(hessian: Any, clip: str, n_columns: int) -> NDArray[np.float64] | None:
    """Diagonal (C,) float64 of a Hessian if the clip rule asks for one.

    Raises
    ------
    ValueError
        If it is missing or needless; if it is not finite, >= 0 and somewhere > 0.
    """
    if (clip == "hessian") != (hessian is not None):
        got = "none" if hessian is None else f"one with clip={clip!r}"
        raise ValueError(f"a hessian goes with clip='hessian', got {got}; give both or neither")
    if hessian is None:
        return None
    given, _, _ = to_float(hessian, "hessian")
    if given.shape not in [(n_columns,), (n_columns, n_columns)]:
        raise ValueError(
            f"hessian must be of shape ({n_columns}, {n_columns}) or its diagonal, got shape "
            f"{given.shape}; is it of another layer?"
        )
    column_weights = np.array(given.diagonal() if given.ndim == 2 else given, np.float64)
    if not (
        np.isfinite(column_weights).all() and column_weights.min() >= 0 and column_weights.max() > 0
    ):
        raise ValueError(
            "the Hessian's diagonal must be finite, >= 0 and somewhere > 0, got "
            f"{column_weights.min()}..{column_weights.max()}; did the calibration reach this layer?"
        )
    return column_weights
