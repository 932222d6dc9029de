"""The levels that a weight can take: evenly spaced, or those of a codebook."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import DTypeLike

from quant.kernels.grid import decode_codebook, decode_uniform, encode_codebook, encode_uniform
from quant.numerics.group_scales import spread
from quant.types import Array, Matrix

CLIPPED_ROWS = 1024  # of a matrix looked at together


@dataclass(frozen=True, eq=False, kw_only=True)
class UniformGrid:
    """Levels ``(code - zero_point) * scale``.

    The code of a weight w is ``clip(rint(w / scale) + zero_point, lowest, highest)``, all in
    float32 and with a division, so that numpy, torch and the kernel agree to the bit. Ties go to
    the even multiple of the scale.

    Attributes
    ----------
    scales : (R or 1, G) float32 > 0
        One for each row, or one for all rows; one for each group of columns.
    zero_points : (R or 1, G) float32, whole numbers
        Codes of the weight 0; all 0 if the grid is symmetric.
    lowest, highest : int
        Smallest and largest code: within int8 if `lowest` is negative, else within uint8.
    group_size : int
        Columns that share a scale; C or more for one group. The last group may be shorter.

    Raises
    ------
    ValueError
        If an array has another dtype or shape, or a level is not finite.
    """

    scales: Matrix
    zero_points: Matrix
    lowest: int
    highest: int
    group_size: int

    def __post_init__(self) -> None:
        check_scales(self.scales, self.group_size)
        zero_points = self.zero_points
        if zero_points.dtype != np.float32 or zero_points.shape != self.scales.shape:
            raise ValueError(
                f"zero_points must be float32 of shape {self.scales.shape}, as the scales are, got "
                f"{zero_points.dtype} of shape {zero_points.shape}; make one for each scale"
            )
        least, most = (-128, 127) if self.lowest < 0 else (0, 255)
        if not least <= self.lowest < self.highest <= most:
            raise ValueError(
                "codes must fit int8 or uint8, lowest < highest, got "
                f"{self.lowest}..{self.highest}; use 8 bits or fewer"
            )
        if not np.all((zero_points == np.rint(zero_points)) & (np.abs(zero_points) <= 255)):
            raise ValueError(
                "zero_points must be whole numbers in -255..255, got "
                f"{zero_points.min()}..{zero_points.max()}; they are codes"
            )
        reach = np.maximum(np.abs(self.lowest - zero_points), np.abs(self.highest - zero_points))
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(self.scales * reach).all()
        if not is_finite:
            raise ValueError(
                f"levels must be finite, got a scale of {self.scales.max():.4g}; it is too large"
            )

    @property
    def code_dtype(self) -> type[np.int8] | type[np.uint8]:
        """Dtype of the codes."""
        return np.int8 if self.lowest < 0 else np.uint8

    @property
    def code_bits(self) -> int:
        """Bits of a packed code."""
        return (self.highest - self.lowest).bit_length()

    def take(self, rows: Array) -> "UniformGrid":
        """Return the grid of some rows (n,) of the matrix."""
        if len(self.scales) == 1:
            return self
        return replace(self, scales=self.scales[rows], zero_points=self.zero_points[rows])

    def clipped(self, matrix: Matrix) -> float:
        """Return the share of a matrix (R, C) beyond the levels, by more than half a scale."""
        n_clipped = 0
        for start in range(0, len(matrix), CLIPPED_ROWS):
            rows = slice(start, start + CLIPPED_ROWS)
            scales, zero_points = (
                spread(array[rows] if len(array) > 1 else array, self.group_size, matrix.shape[1])
                for array in (self.scales, self.zero_points)
            )
            quotients = matrix[rows] / scales + zero_points
            is_clipped = (quotients < self.lowest - 0.5) | (quotients > self.highest + 0.5)
            n_clipped += int(np.count_nonzero(is_clipped))
        return n_clipped / matrix.size

    def encode(self, matrix: Matrix, out: Array | None = None) -> Array:
        """Return the codes (R, C), int8 or uint8, of a matrix (R, C) float32, finite.

        They are written to `out` if it is given.
        """
        check_fit(self.scales, self.group_size, matrix.shape)
        check_float32(matrix)
        codes = output(out, matrix.shape, self.code_dtype)
        bounds = np.float32(self.lowest), np.float32(self.highest)
        encode_uniform(matrix, self.scales, self.zero_points, *bounds, self.group_size, codes)
        return codes

    def decode(self, codes: Array, out: Matrix | None = None) -> Matrix:
        """Return the matrix (R, C) float32 of codes (R, C), int8 or uint8.

        It is written to `out` if it is given.
        """
        check_fit(self.scales, self.group_size, codes.shape)
        if codes.dtype not in (np.int8, np.uint8):
            raise ValueError(f"codes must be int8 or uint8, got {codes.dtype}; cast them")
        matrix = output(out, codes.shape, np.float32)
        decode_uniform(codes, self.scales, self.zero_points, self.group_size, matrix)
        return matrix

    def column(self, i: int) -> tuple[Matrix, Matrix]:
        """Return (scales, zero points) of column i, each (R or 1,)."""
        group = i // self.group_size
        return self.scales[:, group], self.zero_points[:, group]


@dataclass(frozen=True, eq=False, kw_only=True)
class CodebookGrid:
    """Levels ``codebook[code] * scale``.

    The code of a weight w is the index of the codebook value nearest to w / scale (float32). Ties
    go to the lower value.

    Attributes
    ----------
    codebook : (K,) float32, ascending
        1 <= K <= 256.
    scales : (R or 1, G) float32 > 0
        One for each row, or one for all rows; one for each group of columns.
    group_size : int
        Columns that share a scale; C or more for one group. The last group may be shorter.

    Raises
    ------
    ValueError
        If an array has another dtype or shape, or a level is not finite.
    """

    codebook: Matrix
    scales: Matrix
    group_size: int

    code_dtype = np.uint8

    def __post_init__(self) -> None:
        check_scales(self.scales, self.group_size)
        codebook = self.codebook
        if codebook.dtype != np.float32 or codebook.ndim != 1 or not 1 <= codebook.size <= 256:
            raise ValueError(
                f"codebook must be float32 of shape (1..256,), got {codebook.dtype} of shape "
                f"{codebook.shape}; a code is one byte"
            )
        if not np.isfinite(codebook).all() or np.any(codebook[1:] < codebook[:-1]):
            raise ValueError(
                f"codebook must be finite and ascending, got {codebook[0]}..{codebook[-1]}; sort it"
            )
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(self.scales.max() * np.abs(codebook).max())
        if not is_finite:
            raise ValueError(
                f"levels must be finite, got a scale of {self.scales.max():.4g}; it is too large"
            )

    @property
    def code_bits(self) -> int:
        """Bits of a packed code."""
        return max((len(self.codebook) - 1).bit_length(), 1)

    def encode(self, matrix: Matrix, out: Array | None = None) -> Array:
        """Return the codes (R, C) uint8 of a matrix (R, C) float32, finite.

        They are written to `out` if it is given.
        """
        check_fit(self.scales, self.group_size, matrix.shape)
        check_float32(matrix)
        codes = output(out, matrix.shape, np.uint8)
        encode_codebook(matrix, self.scales, self.thresholds(), self.group_size, codes)
        return codes

    def decode(self, codes: Array, out: Matrix | None = None) -> Matrix:
        """Return the matrix (R, C) float32 of codes (R, C) uint8.

        It is written to `out` if it is given.
        """
        check_fit(self.scales, self.group_size, codes.shape)
        if codes.dtype != np.uint8 or (codes.size and codes.max() >= self.codebook.size):
            raise ValueError(
                f"codes must be uint8 below {self.codebook.size}, got {codes.dtype} up to "
                f"{codes.max()}; use the codebook that they were encoded with"
            )
        matrix = output(out, codes.shape, np.float32)
        decode_codebook(codes, self.codebook, self.scales, self.group_size, matrix)
        return matrix

    def take(self, rows: Array) -> "CodebookGrid":
        """Return the grid of some rows (n,) of the matrix."""
        if len(self.scales) == 1:
            return self
        return replace(self, scales=self.scales[rows])

    def column(self, i: int) -> Matrix:
        """Return the scales of column i, (R or 1,)."""
        return self.scales[:, i // self.group_size]

    def thresholds(self) -> Matrix:
        """Return the largest float32 that belongs to each level but the last, (2^n - 1,).

        A float32 is above the midpoint of two levels if and only if it is above the largest float32
        that is at or below the midpoint. Thresholds beyond the K - 1 of the codebook are infinite.
        """
        levels = self.codebook.astype(np.float64)
        midpoints = 0.5 * (levels[1:] + levels[:-1])
        rounded = midpoints.astype(np.float32)
        below = np.nextafter(rounded, np.float32(-np.inf))
        n = max(self.codebook.size - 1, 1).bit_length()
        padded = np.full(2**n - 1, np.inf, np.float32)
        padded[: midpoints.size] = np.where(rounded > midpoints, below, rounded)
        return padded


Grid = UniformGrid | CodebookGrid


def is_same(grid: Grid, other: Grid, n_columns: int) -> bool:
    """Whether two grids of one class have the same levels in a matrix of this many columns."""
    names = {field.name for field in fields(grid)} - {"group_size"}
    return min(grid.group_size, n_columns) == min(other.group_size, n_columns) and all(
        np.array_equal(getattr(grid, name), getattr(other, name)) for name in names
    )


def check_scales(scales: Matrix, group_size: int) -> None:
    """Raise ValueError unless `scales` is (R or 1, G) float32, finite and > 0."""
    if scales.dtype != np.float32 or scales.ndim != 2 or scales.size == 0:
        raise ValueError(
            f"scales must be float32 of shape (rows or 1, groups), got {scales.dtype} of shape "
            f"{scales.shape}; reshape them"
        )
    if not (scales.min() > 0 and np.isfinite(scales.max())):
        raise ValueError(
            f"scales must be finite and > 0, got {scales.min():.4g}..{scales.max():.4g}; use 1 for "
            "a group of zeros"
        )
    if group_size < 1:
        raise ValueError(f"group_size must be >= 1, got {group_size}; use C for one group")


def check_fit(scales: Matrix, group_size: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the scales fit a matrix of this shape."""
    if len(shape) != 2 or scales.shape not in [
        (rows, -(-shape[1] // group_size)) for rows in (1, shape[0])
    ]:
        raise ValueError(
            f"a grid must fit the matrix, got scales of shape {scales.shape} for groups of "
            f"{group_size} columns and a matrix of shape {shape}; fit a new grid"
        )


def check_float32(matrix: Array) -> None:
    """Raise ValueError unless the matrix is float32: codes are defined by its arithmetic."""
    if matrix.dtype != np.float32:
        raise ValueError(f"matrix must be float32, got {matrix.dtype}; cast it first")


def output(out: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return `out`, or a new array if it is None; ValueError if its shape or dtype differs."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"out must be {np.dtype(dtype)} of shape {shape}, got {out.dtype} of shape "
            f"{out.shape}; leave it out for a new array"
        )
    return out
