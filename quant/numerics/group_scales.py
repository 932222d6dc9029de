"""What the groups of a matrix are divided by, so that one codebook serves them all.

The scale of a group of zeros is stored as 0, and its weights are 0 again. While codes are sought
the least float32 above 0 stands in its place: one can divide by it. Groups whose scale is just
that, 1.4e-45, count as zeros.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

RULES = ("rms", "absmax", "none")
DTYPES = ("float16", "float32")
SMALLEST = np.finfo(np.float32).smallest_subnormal


def make_scales(matrix: Matrix, rule: str, group_size: int, dtype: str) -> Matrix:
    """Scale of each group of each row (R, G) float32, of values that `dtype` holds; 0 of zeros.

    Parameters
    ----------
    matrix : (R, C) float32
        Finite.
    rule : str
        "absmax", the largest magnitude; "rms", the root of the mean square; "none": 1, (1, 1).
    group_size : int >= 1
        Columns of a group; the last may be shorter.
    dtype : str
        "float16" or "float32", in which they are stored.

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
        # the least float32 above 0 where the root would round to it
        least = np.where(scales == 0, np.float32(0), SMALLEST)
        scales = np.maximum((scales * np.sqrt(mean)).astype(np.float32), least)
    with np.errstate(over="ignore"):  # refused below
        stored = scales.astype(dtype).astype(np.float32)
    wrong = ~np.isfinite(stored) | ((stored == 0) & (scales > 0))
    if wrong.any():
        row, group = np.argwhere(wrong)[0]
        raise ValueError(
            f"scales must fit {dtype}, got {scales[row, group]:.4g} in row {row}, group {group}; "
            "use scale_dtype='float32'"
        )
    return stored


def used_scales(stored: NDArray[Any]) -> Matrix:
    """Stored scales as a grid takes them: float32, above 0."""
    return np.maximum(np.ascontiguousarray(stored, np.float32), SMALLEST)


def stored_scales(used: Matrix, dtype: str) -> NDArray[Any]:
    """The scales of a grid as they are stored."""
    return np.where(used <= SMALLEST, np.float32(0), used).astype(dtype)


def spread(scales: NDArray[Any], group_size: int, columns: int) -> NDArray[Any]:
    """(R or 1, C) or what broadcasts to it: of each column the scale of its group."""
    if scales.shape[1] == 1:
        return scales
    return np.repeat(scales, group_size, axis=1)[:, :columns]
