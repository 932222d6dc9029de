"""Checks of codes and side arrays that were loaded from a file, before they are decoded."""

from collections.abc import Mapping

import numpy as np

from quant.types import Array

Shape = tuple[int, ...]

MAX_FLOAT32 = float(np.finfo(np.float32).max)


def check_scales(scales: Array, dtype: str, shape: tuple[int, int]) -> None:
    """Raise ValueError unless `scales` have this dtype and shape and are finite and >= 0."""
    if scales.dtype != dtype or scales.shape != shape:
        raise ValueError(
            f"scales must be {dtype} of shape {shape}, got {scales.dtype} of shape "
            f"{scales.shape}; the file is damaged"
        )
    if not (np.isfinite(scales).all() and scales.min() >= 0):
        raise ValueError(
            f"scales must be finite and >= 0, got {scales.min()}..{scales.max()}; the file is "
            "damaged"
        )


def check_codebook(codebook: Array, k: int, before: Shape = (), after: Shape = ()) -> None:
    """Raise ValueError unless `codebook` is float32 of shape (*before, 1..k, *after)."""
    axis = len(before)
    n = codebook.shape[axis] if codebook.ndim > axis else 0
    has_shape = codebook.shape == (*before, n, *after) and 1 <= n <= k
    if codebook.dtype != np.float32 or not has_shape:
        shape = ", ".join(str(size) for size in (*before, f"1..{k}", *after))
        raise ValueError(
            f"codebook must be float32 of shape ({shape}), got {codebook.dtype} of shape "
            f"{codebook.shape}; the file is damaged"
        )


def check_reach(reach: float) -> None:
    """Raise ValueError unless weights up to `reach` are finite in float32; NaN is not."""
    if not reach <= MAX_FLOAT32:
        raise ValueError(f"weights must be finite in float32, got {reach:.4g}; the file is damaged")


def check_codes(codes: Array, shape: tuple[int, int], n_values: int) -> None:
    """Raise ValueError unless `codes` are uint8 of this shape, all below `n_values`."""
    if codes.dtype != np.uint8 or codes.shape != shape:
        raise ValueError(
            f"codes must be uint8 of shape {shape}, got {codes.dtype} of shape {codes.shape}; the "
            "file is damaged"
        )
    if codes.max() >= n_values:
        raise ValueError(
            f"codes must be below {n_values}, the size of the codebook, got {codes.max()}; the "
            "file is damaged"
        )


def check_names(arrays: Mapping[str, Array], names: set[str]) -> None:
    """Raise ValueError unless `arrays` has exactly these names."""
    if set(arrays) != names:
        raise ValueError(
            f"arrays must be {', '.join(sorted(names)) or 'none'}, got "
            f"{', '.join(sorted(arrays)) or 'none'}; the file is damaged"
        )
