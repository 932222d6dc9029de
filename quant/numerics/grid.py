"""The levels that a weight can take: evenly spaced, or those of a codebook."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from quant.kernels.grid import decode_codebook, decode_uniform, encode_codebook, encode_uniform

Array = NDArray[Any]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class UniformGrid:
    """Levels (code - zero) * step.

    The code of a weight w is ``clip(rint(w / step) + zero, lowest, highest)``, all in float32 and
    with a division: numpy, torch and the kernel agree to the bit. A tie goes to the even multiple
    of the step.

    Attributes
    ----------
    steps : (R or 1, G) float32 > 0
        Of each row, or of all; of each group of columns.
    zeros : (R or 1, G) float32, whole
        The codes that stand for 0; all 0 if the grid is symmetric.
    lowest, highest : int
        The codes in use, both included: within int8 if `lowest` is negative, else within uint8.
    group_size : int
        Columns that share a step; C or more for one group. The last group may be shorter.

    Raises
    ------
    ValueError
        If an array is of another kind, or a level is not finite.
    """

    scales: Matrix
    zero_points: Matrix
    lowest: int
    highest: int
    group_size: int

    def __post_init__(self) -> None:
        check_scales(self.scales, "scales", self.group_size)
        zero_points = self.zero_points
        if zero_points.dtype != np.float32 or zero_points.shape != self.scales.shape:
            raise ValueError(
                f"zero_points must be float32 of shape {self.scales.shape}, as the scales are, got "
                f"{zero_points.dtype} of shape {zero_points.shape}; make one for each scale"
            )
        least, most = (-128, 127) if self.lowest < 0 else (0, 255)
        if not least <= self.lowest < self.highest <= most:
            raise ValueError(
                "codes must be an int8 or a uint8, lowest < highest, got "
                f"{self.lowest}..{self.highest}; use 8 bits or fewer"
            )
        if not np.all((zero_points == np.rint(zero_points)) & (np.abs(zero_points) <= 255)):
            raise ValueError(
                f"zero_points must be whole numbers in -255..255, got "
                f"{zero_points.min()}..{zero_points.max()}; they are codes"
            )
        reach = np.maximum(np.abs(self.lowest - zero_points), np.abs(self.highest - zero_points))
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(self.scales * reach).all()
        if not is_finite:
            raise ValueError(
                f"levels must be finite, got a scale of {self.scales.max():.4g}; it is too large"
            )

    def encode(self, matrix: Matrix, out: Array | None = None) -> Array:
        """Codes (R, C), int8 or uint8, of weights (R, C) float32, finite; written to `out`."""
        check_fit(self.scales, self.group_size, matrix.shape)
        check_float32(matrix)
        codes = output(out, matrix.shape, np.int8 if self.lowest < 0 else np.uint8)
        bounds = np.float32(self.lowest), np.float32(self.highest)
        encode_uniform(matrix, self.scales, self.zero_points, *bounds, self.group_size, codes)
        return codes

    def decode(self, codes: Array, out: Matrix | None = None) -> Matrix:
        """Weights (R, C) float32 of codes (R, C), int8 or uint8; written to `out`."""
        check_fit(self.scales, self.group_size, codes.shape)
        if codes.dtype not in (np.int8, np.uint8):
            raise ValueError(f"codes must be int8 or uint8, got {codes.dtype}; cast them")
        matrix = output(out, codes.shape, np.float32)
        decode_uniform(codes, self.scales, self.zero_points, self.group_size, matrix)
        return matrix

    def column(self, i: int) -> tuple[Matrix, Matrix]:
        """(steps, zeros) of column i, each (R or 1,)."""
        group = i // self.group_size
        return self.scales[:, group], self.zero_points[:, group]


@dataclass(frozen=True, eq=False, kw_only=True)
class CodebookGrid:
    """Levels codebook[code] * scale.

    The code of a weight w is the index of the level nearest to w / scale (float32); a tie goes to
    the lower one.

    Attributes
    ----------
    codebook : (K,) float32, ascending
        1 <= K <= 256.
    scales : (R or 1, G) float32 > 0
        Of each row, or of all; of each group of columns.
    group_size : int
        Columns that share a scale; C or more for one group. The last group may be shorter.

    Raises
    ------
    ValueError
        If an array is of another kind, or a level is not finite.
    """

    codebook: Matrix
    scales: Matrix
    group_size: int

    def __post_init__(self) -> None:
        check_scales(self.scales, "scales", self.group_size)
        book = self.codebook
        if book.dtype != np.float32 or book.ndim != 1 or not 1 <= book.size <= 256:
            raise ValueError(
                f"codebook must be float32 of shape (1..256,), got {book.dtype} of shape "
                f"{book.shape}; a code is a byte"
            )
        if not np.isfinite(book).all() or np.any(book[1:] < book[:-1]):
            raise ValueError(
                f"codebook must be finite and ascending, got {book[0]}..{book[-1]}; sort it"
            )
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(self.scales.max() * np.abs(book).max())
        if not is_finite:
            raise ValueError(
                f"levels must be finite, got a scale of {self.scales.max():.4g}; it is too large"
            )

    def encode(self, matrix: Matrix, out: Array | None = None) -> Array:
        """Codes (R, C) uint8 of weights (R, C) float32, finite; written to `out`."""
        check_fit(self.scales, self.group_size, matrix.shape)
        check_float32(matrix)
        codes = output(out, matrix.shape, np.uint8)
        encode_codebook(matrix, self.scales, self.thresholds(), self.group_size, codes)
        return codes

    def decode(self, codes: Array, out: Matrix | None = None) -> Matrix:
        """Weights (R, C) float32 of codes (R, C) uint8; written to `out`."""
        check_fit(self.scales, self.group_size, codes.shape)
        if codes.dtype != np.uint8 or (codes.size and codes.max() >= self.codebook.size):
            raise ValueError(
                f"codes must be uint8 below {self.codebook.size}, got {codes.dtype} up to "
                f"{codes.max()}; they are of another codebook"
            )
        matrix = output(out, codes.shape, np.float32)
        decode_codebook(codes, self.codebook, self.scales, self.group_size, matrix)
        return matrix

    def column(self, i: int) -> Matrix:
        """Scales of column i, (R or 1,)."""
        return self.scales[:, i // self.group_size]

    def thresholds(self) -> Matrix:
        """Greatest float32 that still belongs to each level but the last, (2^n - 1,).

        A float32 is above the middle of two levels if and only if it is above the greatest float32
        that is not. What 2^n levels would need beyond K - 1 is infinite.
        """
        levels = self.codebook.astype(np.float64)
        middle = 0.5 * (levels[1:] + levels[:-1])
        rounded = middle.astype(np.float32)
        below = np.nextafter(rounded, np.float32(-np.inf))
        n = max(self.codebook.size - 1, 1).bit_length()
        padded = np.full(2**n - 1, np.inf, np.float32)
        padded[: middle.size] = np.where(rounded > middle, below, rounded)
        return padded


def check_scales(scales: Matrix, name: str, group_size: int) -> None:
    """Raise ValueError unless `scales` is (R or 1, G) float32, finite and > 0."""
    if scales.dtype != np.float32 or scales.ndim != 2 or scales.size == 0:
        raise ValueError(
            f"{name} must be float32 of shape (rows or 1, groups), got {scales.dtype} of shape "
            f"{scales.shape}; reshape them"
        )
    if not (scales.min() > 0 and np.isfinite(scales.max())):
        raise ValueError(
            f"{name} must be finite and > 0, got {scales.min():.4g}..{scales.max():.4g}; give a "
            "group of zeros a 1"
        )
    if group_size < 1:
        raise ValueError(f"group_size must be >= 1, got {group_size}; C for one group")


def check_fit(scales: Matrix, group_size: int, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless these scales are those of a matrix of this shape."""
    if len(shape) != 2 or scales.shape not in [
        (rows, -(-shape[1] // group_size)) for rows in (1, shape[0])
    ]:
        raise ValueError(
            f"a grid of {scales.shape} scales for groups of {group_size} columns must meet a "
            f"matrix that it fits, got shape {shape}; fit it anew"
        )


def check_float32(matrix: Array) -> None:
    """Raise ValueError unless the weights are float32: codes are defined by its arithmetic."""
    if matrix.dtype != np.float32:
        raise ValueError(f"matrix must be float32, got {matrix.dtype}; cast it first")


def output(out: Array | None, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """`out` if it is of this shape and dtype, or a new array if there is none."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"out must be {np.dtype(dtype)} of shape {shape}, got {out.dtype} of shape "
            f"{out.shape}; leave it out for a new array"
        )
    return out
