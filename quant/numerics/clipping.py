"""Fit the scales of a uniform grid: how far its levels reach, by a clip rule."""

from collections.abc import Callable
from math import inf

import numpy as np

from quant.base.config import ScaleRangeError
from quant.kernels.grid import add_errors
from quant.numerics.grid import UniformGrid
from quant.numerics.group_scales import check_stored
from quant.numerics.sd_clip import keep_mass, sd_range
from quant.types import Float64, Matrix

# The search for the smallest squared error: octaves by which a range is narrowed, one after the
# other, and whether its lower and its upper end are narrowed. Outliers reach 60 standard
# deviations.
COARSE, ENDS, FINE = np.arange(1, 49) / 8, np.arange(-24, 25) / 8, np.arange(-7, 8) / 64
BOTH, LOWER, UPPER = (1, 1), (1, 0), (0, 1)
SYMMETRIC = [(COARSE, BOTH), (FINE, BOTH)]
AFFINE = [
    (COARSE, BOTH), (ENDS, UPPER), (ENDS, LOWER), (ENDS, UPPER), (ENDS, LOWER),
    (FINE, BOTH), (FINE, UPPER), (FINE, LOWER),
]  # fmt: skip


def parse_clip(clip: str) -> tuple[str, float]:
    """Return (name, K) of a clip rule; K is inf for "absmax", "mse" and "hessian"."""
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


def fit_uniform(
    matrix: Matrix,
    n_rows: int,
    group_size: int,
    *,
    bits: int,
    symmetric: bool,
    clip: str,
    scale_dtype: str,
    column_weights: Float64 | None = None,
) -> UniformGrid:
    """Fit a uniform grid to a matrix (R, C) float32 by a clip rule.

    "absmax" reaches the largest weight. "sd:K" reaches K standard deviations: about 0 if the grid
    is symmetric (the root mean square), else about the mean. A group that this would make larger or
    smaller as a whole takes the range of absmax; see `quant.numerics.sd_clip`. "mse" and "hessian"
    try ranges from that of absmax down to 1/64 of it, in the end 1.1 % apart, and take the one with
    the smallest squared error, weighted by column; the ends of an affine range are also moved one
    at a time. Where all weights of a group are equal, sd reaches the largest weight; where all are
    0, the scale is 1. Every range includes 0.

    Parameters
    ----------
    n_rows : 1 or R
        Rows of the scales: one for all rows together, or one for each.
    group_size : int
        Columns that share a scale.
    scale_dtype : str
        Dtype of stored scales. They are rounded to it before use, and never to 0 but to its
        smallest positive number.
    column_weights : (C,) float64 >= 0, optional
        Weight of the squared error of each column; equal if absent.

    Raises
    ------
    ValueError
        If a scale does not fit its dtype, or a level is not finite.
    """
    lowest, highest = code_range(bits, symmetric)
    name, k = parse_clip(clip)
    most = over_groups(np.maximum, matrix, n_rows, group_size)
    least = over_groups(np.minimum, matrix, n_rows, group_size)
    low, high = np.minimum(least, 0), np.maximum(most, 0)
    weights = np.ones(matrix.shape[1]) if column_weights is None else column_weights
    bounds = np.float32(lowest), np.float32(highest)

    def exact_scales(low: Float64, high: Float64) -> Float64:
        span = np.maximum(-low, high) if symmetric else high - low
        return np.where(span > 0, span / highest, 1.0)

    def levels(low: Float64, high: Float64) -> tuple[Matrix, Matrix]:
        scales = round_scales(exact_scales(low, high), scale_dtype)
        zero_points = np.zeros_like(scales)
        if not symmetric:
            zero_points = np.clip(np.rint(-low / scales), lowest, highest).astype(np.float32)
        return scales, zero_points

    if name == "sd":
        largest = low, high
        chosen = sd_range(matrix, n_rows, group_size, k, symmetric=symmetric)
        chosen = keep_mass(matrix, group_size, levels, bounds, weights, chosen, largest)
        is_varied = least < most  # equal weights are levels of the largest range
        low, high = (np.where(is_varied, *ends) for ends in zip(chosen, largest, strict=True))
    elif name != "absmax":

        def errors(low: Float64, high: Float64) -> Float64:
            sums = np.zeros(low.shape)
            add_errors(matrix, *levels(low, high), *bounds, group_size, weights, sums)
            return sums

        low, high = smallest_error(errors, low, high, symmetric)
    scales, zero_points = levels(low, high)
    check_stored(exact_scales(low, high), scales, scale_dtype)
    return UniformGrid(
        scales=scales,
        zero_points=zero_points,
        lowest=lowest,
        highest=highest,
        group_size=group_size,
    )


def smallest_error(
    errors: Callable[[Float64, Float64], Float64], low: Float64, high: Float64, symmetric: bool
) -> tuple[Float64, Float64]:
    """Return the (low, high) of each group whose error is smallest among the ranges tried."""
    best = errors(low, high)
    for octaves, (narrows_low, narrows_high) in SYMMETRIC if symmetric else AFFINE:
        first_low, first_high = low, high
        for octave in octaves:
            next_low = first_low * 2.0 ** -(octave * narrows_low)
            next_high = first_high * 2.0 ** -(octave * narrows_high)
            error = errors(next_low, next_high)
            is_better = error < best
            best = np.where(is_better, error, best)
            low = np.where(is_better, next_low, low)
            high = np.where(is_better, next_high, high)
    return low, high


def code_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Return (lowest, highest) code: -n..n if symmetric, else 0..2n + 1; n is 2^(bits-1) - 1."""
    n = int(2 ** (bits - 1) - 1)
    return (-n, n) if symmetric else (0, 2 * n + 1)


def round_scales(scales: Float64, dtype: str) -> Matrix:
    """Round scales to a dtype, at least to its smallest positive number; returned as float32."""
    info = np.finfo(dtype)
    if scales.max() > info.max:
        raise ScaleRangeError(
            f"scales must be finite as {dtype}, got {scales.max():.4g}; look for outliers in the "
            "weight"
        )
    return np.maximum(scales, info.smallest_subnormal).astype(dtype).astype(np.float32)


def over_groups(reduce: np.ufunc, matrix: Matrix, n_rows: int, group_size: int) -> Float64:
    """Return the minimum or maximum of each group, (R or 1, G) float64."""
    if n_rows == 1:
        matrix = reduce.reduce(matrix, axis=0, keepdims=True)
    starts = np.arange(0, matrix.shape[1], group_size)
    return np.asarray(reduce.reduceat(matrix, starts, axis=1), np.float64)
