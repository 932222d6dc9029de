"""Scales of the groups of a matrix, by which weights are divided before a codebook is fitted.

The scale of a group of zeros is stored as 0, and the group is decoded to 0. While codes are chosen,
0 is replaced by the smallest positive float32, 1.4e-45, to allow division. Groups with exactly this
scale are treated as zeros.
"""

import numpy as np

from quant.base.config import ScaleRangeError
from quant.types import Array, Matrix

RULES = ("rms", "absmax", "none")
DTYPES = ("float16", "float32")
MAX_CHANGE = 1 / 64  # of a scale, by rounding it to its dtype
SMALLEST = np.finfo(np.float32).smallest_subnormal


def make_scales(matrix: Matrix, rule: str, group_size: int, dtype: str) -> Matrix:
    """Return the scale of each group of each row, (R, G) float32 rounded to `dtype`.

    The scale of a group of zeros is 0.

    Parameters
    ----------
    matrix : (R, C) float32
        Finite.
    rule : str
        "absmax", the largest magnitude; "rms", the root mean square; "none", 1 of shape (1, 1).
    group_size : int >= 1
        Columns of a group; the last may be shorter.
    dtype : str
        Dtype of stored scales: "float16" or "float32".

    Raises
    ------
    ValueError
        If a scale is too large or too small for `dtype`.
    """
    if rule == "none":
        return np.ones((1, 1), np.float32)
    columns = matrix.shape[1]
    starts = np.arange(0, columns, group_size)
    scales: Matrix = np.maximum.reduceat(np.abs(matrix), starts, axis=1)
    if rule == "rms":
        shares = np.square(matrix / spread(used_scales(scales), group_size, columns))
        sizes = np.diff(starts, append=columns)
        mean = np.add.reduceat(shares, starts, axis=1, dtype=np.float64) / sizes
        # at least the smallest positive float32, where the root would round to 0
        least = np.where(scales == 0, np.float32(0), SMALLEST)
        scales = np.maximum((scales * np.sqrt(mean)).astype(np.float32), least)
    with np.errstate(over="ignore"):  # refused below
        stored = scales.astype(dtype).astype(np.float32)
    check_stored(scales, stored, dtype)
    return stored


def check_stored(scales: Array, stored: Matrix, dtype: str) -> None:
    """Raise ScaleRangeError if rounding to `dtype` changed a scale (R, G) > 0 too much.

    float16 is coarse near its smallest numbers. float32 is the widest there is, so that only
    infinities are refused.
    """
    with np.errstate(invalid="ignore"):
        wrong = ~np.isfinite(stored) | (np.abs(stored - scales) > MAX_CHANGE * scales)
    if dtype == "float32":
        wrong = ~np.isfinite(stored) | ((stored == 0) & (scales > 0))
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise ScaleRangeError(
            f"scales must fit {dtype}, got {scales[row, group]:.4g} in row {row}, group {group}; "
            "use scale_dtype='float32'"
        )


def used_scales(stored: Array) -> Matrix:
    """Convert stored scales to those of a grid: float32, above 0."""
    return np.maximum(np.ascontiguousarray(stored, np.float32), SMALLEST)


def stored_scales(used: Matrix, dtype: str) -> Array:
    """Convert the scales of a grid to stored scales."""
    return np.where(used <= SMALLEST, np.float32(0), used).astype(dtype)


def spread(scales: Array, group_size: int, columns: int) -> Array:
    """Repeat scales (R or 1, G) for each column: (R or 1, C), or (R or 1, 1) for one group."""
    if scales.shape[1] == 1:
        return scales
    return np.repeat(scales, group_size, axis=1)[:, :columns]
