"""The clip rule "sd:K": a range of K standard deviations, unless that would rescale a group.

A wide range makes the codes of a group compress well, and costs what rounding costs: a twelfth of
the squared scale for each weight. That holds only if no weight is clipped and the weights are
spread out over several levels. A row of equal weights, or with one large one, would become larger
or smaller as a whole; it takes the range of its largest weight.
"""

from collections.abc import Callable

import numpy as np

from quant.kernels.grid import add_errors, add_powers, add_shifts
from quant.types import Float64, Matrix

Levels = Callable[[Float64, Float64], tuple[Matrix, Matrix]]
Range = tuple[Float64, Float64]

MAX_EXCESS = 1.5  # squared error of a group, in units of that of rounding
MAX_SHIFT = 1 / 24  # share of its size that a group may gain or lose, w * (decoded - w) over w²


def sd_range(matrix: Matrix, n_rows: int, group_size: int, k: float, *, symmetric: bool) -> Range:
    """Return (low, high) of each group, (R or 1, G): K standard deviations, and 0.

    They are taken about 0 if the grid is symmetric, the root mean square; else about the mean.
    """
    mean, sd = moments(matrix, n_rows, group_size)
    if symmetric:
        mean, sd = np.zeros_like(mean), np.hypot(mean, sd)
    return np.minimum(mean - k * sd, 0), np.maximum(mean + k * sd, 0)


def keep_mass(
    matrix: Matrix,
    group_size: int,
    levels: Levels,
    bounds: tuple[np.float32, np.float32],
    column_weights: Float64,
    chosen: Range,
    largest: Range,
) -> Range:
    """Return the chosen range (low, high) of each group, or the largest where that is needed.

    It is needed where the chosen range makes more error than rounding does, or makes the group as a
    whole larger or smaller, and the largest range has the smaller error.

    Parameters
    ----------
    matrix : (R, C) float32
    levels : callable
        (scales, zero points) of ranges (low, high).
    bounds : tuple
        Lowest and highest code.
    column_weights : (C,) float64 >= 0
        Weights of the squared errors of the columns.
    chosen, largest : tuples
        (low, high), each (R or 1, G): the ranges to choose from. The largest reaches all weights.
    """
    scales, zero_points = levels(*chosen)
    shape = scales.shape
    errors, counts, shifts, squares = np.zeros((4, *shape))
    options = (*bounds, group_size, column_weights)
    add_errors(matrix, scales, zero_points, *options, errors)
    add_shifts(matrix, scales, zero_points, *options, counts, shifts, squares)
    noise = np.square(scales, dtype=np.float64) / 12
    is_changed = (errors > MAX_EXCESS * noise * counts) | (np.abs(shifts) > MAX_SHIFT * squares)
    if not is_changed.any():
        return chosen
    errors_of_largest = np.zeros(shape)
    add_errors(matrix, *levels(*largest), *options, errors_of_largest)
    is_changed &= errors_of_largest < errors
    low, high = (np.where(is_changed, *ends) for ends in zip(largest, chosen, strict=True))
    return low, high


def moments(matrix: Matrix, n_rows: int, group_size: int) -> tuple[Float64, Float64]:
    """Return (mean, population standard deviation) of each group, (R or 1, G) float64."""
    rows, columns = matrix.shape
    starts = np.arange(0, columns, group_size)
    counts = np.diff(starts, append=columns) * (rows if n_rows == 1 else 1)
    means, sums, squares = np.zeros((3, n_rows, len(starts)))
    add_powers(matrix, means, group_size, sums, squares)
    means = sums / counts
    squares[:] = 0
    add_powers(matrix, means, group_size, sums, squares)
    return means, np.sqrt(squares / counts)
