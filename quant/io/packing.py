"""Pack codes of 1 to 8 bits into bytes without gaps, and unpack them."""

import sys

import numpy as np

from quant.base.config import check_choice, check_int
from quant.kernels import packing as kernels
from quant.types import Array, Bytes

DTYPES = ("int8", "uint8")


def pack(codes: Array, bits: int) -> Bytes:
    """Pack n codes of `bits` bits into (ceil(n * bits / 8),) uint8.

    The first code is in the lowest bits of the first byte. Unused bits of the last byte are 0.

    Parameters
    ----------
    codes : int8 or uint8, any shape
        Packed in C order; int8 as two's complement of `bits` bits.
    bits : int in 1..8

    Raises
    ------
    ValueError
        If the codes have another dtype, or one does not fit into `bits` bits.
    """
    bits = check_int(bits, "bits", 1, 8)
    check_fits(codes, bits)
    packed: Bytes = np.empty(packed_size(codes.size, bits), np.uint8)
    kernels.pack(np.ascontiguousarray(codes).reshape(-1).view(np.uint8), bits, packed)
    return packed


def unpack(packed: Bytes, bits: int, n: int, dtype: str = "uint8") -> Array:
    """Unpack (n,) codes of this dtype from what `pack` returned.

    Parameters
    ----------
    packed : (ceil(n * bits / 8),) uint8
    bits : int in 1..8
    n : int >= 0
        Number of codes.
    dtype : "int8" or "uint8"

    Raises
    ------
    ValueError
        If `packed` has another dtype or shape, or unused bits that are not 0.
    """
    bits = check_int(bits, "bits", 1, 8)
    n = check_int(n, "n", 0, sys.maxsize)
    check_choice(dtype, "dtype", DTYPES)
    size = packed_size(n, bits)
    if packed.dtype != np.uint8 or packed.shape != (size,):
        raise ValueError(
            f"packed must be uint8 of shape ({size},) for {n} codes of {bits} bits, got "
            f"{packed.dtype} of shape {packed.shape}; pass all that pack returned"
        )
    codes: Bytes = np.empty(n, np.uint8)
    sign = 1 << (bits - 1) if dtype == "int8" else 0
    rest = kernels.unpack(np.ascontiguousarray(packed), bits, sign, codes)
    if rest != 0:
        raise ValueError(
            f"unused bits of the last byte must be 0, got {rest}; pass what pack returned"
        )
    return codes.view(dtype)


def packed_size(n: int, bits: int) -> int:
    """Bytes of n packed codes of `bits` bits."""
    return (n * bits + 7) // 8


def check_fits(codes: Array, bits: int) -> None:
    """Raise ValueError unless the codes are int8 or uint8 and fit into `bits` bits."""
    check_int(bits, "bits", 1, 8)
    if codes.dtype.name not in DTYPES:
        raise ValueError(f"codes must be int8 or uint8, got {codes.dtype}; cast them")
    low, high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        if codes.dtype == np.int8
        else (0, (1 << bits) - 1)
    )
    if codes.size and not (low <= codes.min() and codes.max() <= high):
        wrong = codes[(codes < low) | (codes > high)]
        raise ValueError(
            f"{codes.dtype} codes of {bits} bits must be in {low}..{high}, got {wrong[0]}; use "
            "more bits"
        )
