"""pack and unpack: the bytes of a few codes, and every refusal."""

import numpy as np
import pytest

from quant.io.packing import pack, packed_size, unpack


def refusal(call, *arguments):
    with pytest.raises(ValueError) as caught:
        call(*arguments)
    return str(caught.value)


def uint8(*codes):
    return np.array(codes, np.uint8)


def int8(*codes):
    return np.array(codes, np.int8)


@pytest.mark.kernels
@pytest.mark.parametrize(
    ("codes", "bits", "packed"),
    [
        (uint8(1, 0, 1, 1), 1, [0b1101]),
        (uint8(1, 2, 3, 0, 1), 2, [0b00_11_10_01, 0b01]),
        (uint8(0b101, 0b011, 0b110), 3, [0b10_011_101, 0b1]),
        (int8(-1, 0, 7, -8), 4, [0x0F, 0x87]),
        (int8(-31, 31), 6, [0b11_100001, 0b0111]),
        (int8(-128, 127, -1), 8, [0x80, 0x7F, 0xFF]),
        (uint8(), 5, []),
    ],
)
def test_the_first_code_is_in_the_lowest_bits(codes, bits, packed):
    assert pack(codes, bits).tolist() == packed
    again = unpack(uint8(*packed), bits, len(codes), codes.dtype.name)
    assert again.tolist() == codes.tolist()


@pytest.mark.kernels
def test_any_layout_is_packed_in_its_own_order():
    codes = np.arange(-12, 12, dtype=np.int8).reshape(4, 6)
    for view in (codes, codes.T, codes[::2, ::-1], codes[:, 1]):
        assert unpack(pack(view, 5), 5, view.size, "int8").tolist() == view.ravel().tolist()
    packed = pack(codes, np.int64(5))
    apart = np.repeat(packed, 2)[::2]
    assert not apart.flags.c_contiguous
    assert unpack(apart, np.uint8(5), np.int32(24), "int8").tolist() == codes.ravel().tolist()
    assert [packed_size(n, 6) for n in (0, 1, 2, 3, 4)] == [0, 1, 2, 3, 3]


def test_codes_that_do_not_fit_are_refused():
    assert refusal(pack, uint8(3, 64), 6) == (
        "uint8 codes of 6 bits must be in 0..63, got 64; use more bits"
    )
    assert refusal(pack, int8(31, -33), 6) == (
        "int8 codes of 6 bits must be in -32..31, got -33; use more bits"
    )
    assert (
        refusal(pack, int8(1), 1) == "int8 codes of 1 bits must be in -1..0, got 1; use more bits"
    )
    assert refusal(pack, np.array([1]), 6) == "codes must be int8 or uint8, got int64; cast them"
    for bits in (0, 9, 6.0, True):
        expected = f"bits must be an integer in 1..8, got {bits!r}; correct it"
        assert refusal(pack, uint8(0), bits) == expected
        assert refusal(unpack, uint8(0), bits, 1) == expected


def test_bytes_that_pack_did_not_give_are_refused():
    packed = pack(uint8(1, 2, 3), 6)
    assert refusal(unpack, packed[:2], 6, 3) == (
        "packed must be uint8 of shape (3,) for 3 codes of 6 bits, got uint8 of shape (2,); pass "
        "all that pack returned"
    )
    assert refusal(unpack, packed.view(np.int8), 6, 3) == (
        "packed must be uint8 of shape (3,) for 3 codes of 6 bits, got int8 of shape (3,); pass "
        "all that pack returned"
    )
    assert refusal(unpack, packed[None], 6, 3) == (
        "packed must be uint8 of shape (3,) for 3 codes of 6 bits, got uint8 of shape (1, 3); "
        "pass all that pack returned"
    )
    packed[2] |= 0b1000_0000
    assert refusal(unpack, packed, 6, 3) == (
        "unused bits of the last byte must be 0, got 32; pass what pack returned"
    )
    assert refusal(unpack, packed, 6, -1) == (
        f"n must be an integer in 0..{2**63 - 1}, got -1; correct it"
    )
    assert refusal(unpack, packed, 6, 3, "int16") == (
        "dtype must be one of int8, uint8, got 'int16'; correct it"
    )
