"""Codes of 1 to 8 bits as bytes without gaps, and back."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import check_choice, check_int
from quant.kernels import packing as kernels

Bytes = NDArray[np.uint8]
Codes = NDArray[Any]

DTYPES = ("int8", "uint8")


def pack(codes: Codes, bits: int) -> Bytes:
    """(ceil(n * bits / 8),) uint8: n codes of `bits` bits, one after the other.

    The first code takes the lowest bits of the first byte; bits behind the last code are 0.

    Parameters
    ----------
    codes : int8, each in two's complement of `bits` bits, or uint8; any shape, in C order
    bits : int in 1..8

    Raises
    ------
    ValueError
        If the codes are of another dtype, or one does not fit.
    """
    check_codes(codes, bits)
    packed: Bytes = np.empty(packed_size(codes.size, bits), np.uint8)
    kernels.pack(np.ascontiguousarray(codes).reshape(-1).view(np.uint8), bits, packed)
    return packed


def unpack(packed: Bytes, bits: int, n: int, dtype: str = "uint8") -> Codes:
    """(n,) codes, which `pack` gave for codes of this dtype.

    Parameters
    ----------
    packed : (ceil(n * bits / 8),) uint8
    bits : int in 1..8
    n : int >= 0
    dtype : "int8" or "uint8"

    Raises
    ------
    ValueError
        If `pack` could not have given these bytes.
    """
    check_int(bits, "bits", 1, 8)
    check_int(n, "n", 0, sys.maxsize)
    check_choice(dtype, "dtype", DTYPES)
    size = packed_size(n, bits)
    if packed.dtype != np.uint8 or packed.shape != (size,):
        raise ValueError(
            f"{n} codes of {bits} bits must be uint8 of shape ({size},), got {packed.dtype} of "
            f"shape {packed.shape}; take all that pack gave"
        )
    codes: Bytes = np.empty(n, np.uint8)
    sign = 1 << (bits - 1) if dtype == "int8" else 0
    rest = kernels.unpack(np.ascontiguousarray(packed), bits, sign, codes)
    if rest != 0:
        raise ValueError(
            f"bits behind the last code must be 0, got {rest} in the last byte; take what pack gave"
        )
    return codes.view(dtype)


def packed_size(n: int, bits: int) -> int:
    """Bytes of n codes of `bits` bits."""
    return (n * bits + 7) // 8


def check_codes(codes: Codes, bits: int) -> None:
    """Raise ValueError unless these are codes of `bits` bits; signed ones are int8."""
    check_int(bits, "bits", 1, 8)
    if codes.dtype.name not in DTYPES:
        raise ValueError(f"codes must be int8 or uint8, got {codes.dtype}; cast them")
    least, most = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if codes.dtype == np.int8
        else (0, (1 << bits) - 1)
    )
    if codes.size and not (least <= codes.min() and codes.max() <= most):
        wrong = codes[(codes < least) | (codes > most)]
        raise ValueError(
            f"{codes.dtype} codes of {bits} bits must be in {least}..{most}, got {wrong[0]}; "
            "take more bits"
        )
