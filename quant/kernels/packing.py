"""Pack codes of 1 to 8 bits into bytes and unpack them; a 64-bit word carries eight codes.

Code i takes bits i * bits and up of the stream; bit k of the stream is bit k % 8 of byte k // 8.
"""

import numpy as np

from quant.kernels.jit import jit

GROUP = 8  # codes; their bits fill whole bytes
BYTE = 255


@jit
def pack(codes, bits, packed):
    """Write the low `bits` of codes (n,) uint8 to packed (ceil(n * bits / 8),) uint8."""
    mask = np.uint64((1 << bits) - 1)
    n_groups = len(codes) // GROUP
    for g in range(n_groups):
        word = np.uint64(0)
        for j in range(GROUP):
            word |= (np.uint64(codes[g * GROUP + j]) & mask) << np.uint64(j * bits)
        for k in range(bits):
            packed[g * bits + k] = (word >> np.uint64(8 * k)) & np.uint64(BYTE)
    word = np.uint64(0)
    for j in range(len(codes) - n_groups * GROUP):
        word |= (np.uint64(codes[n_groups * GROUP + j]) & mask) << np.uint64(j * bits)
    for k in range(len(packed) - n_groups * bits):
        packed[n_groups * bits + k] = (word >> np.uint64(8 * k)) & np.uint64(BYTE)


@jit
def unpack(packed, bits, sign, codes):
    """Write the packed codes to codes (n,) uint8; return the bits after the last code.

    sign is the sign bit, 1 << (bits - 1), or 0 for unsigned codes.
    """
    mask = np.uint64((1 << bits) - 1)
    sign = np.uint64(sign)
    n_groups = len(codes) // GROUP
    for g in range(n_groups):
        word = np.uint64(0)
        for k in range(bits):
            word |= np.uint64(packed[g * bits + k]) << np.uint64(8 * k)
        for j in range(GROUP):
            code = (word >> np.uint64(j * bits)) & mask
            codes[g * GROUP + j] = ((code ^ sign) - sign) & np.uint64(BYTE)
    word = np.uint64(0)
    for k in range(len(packed) - n_groups * bits):
        word |= np.uint64(packed[n_groups * bits + k]) << np.uint64(8 * k)
    for j in range(len(codes) - n_groups * GROUP):
        code = word & mask
        codes[n_groups * GROUP + j] = ((code ^ sign) - sign) & np.uint64(BYTE)
        word >>= np.uint64(bits)
    return word
