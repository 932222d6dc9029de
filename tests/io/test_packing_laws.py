"""What holds of packing and compression for any bytes."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from quant.io.codecs import CODECS
from quant.io.container import (
    MAGIC,
    OVERHEAD,
    PIECE,
    START,
    VERSION,
    CompressedError,
    compress,
    decompress,
    digest,
    shuffle,
    unshuffle,
)
from quant.io.packing import pack, packed_size, unpack

INSTALLED = [name for name, codec in CODECS.items() if codec.is_installed]


@st.composite
def codes(draw):
    """(codes of up to 3 dimensions, bits)."""
    bits = draw(st.integers(1, 8))
    dtype = draw(st.sampled_from(["int8", "uint8"]))
    least = -(1 << bits) // 2 if dtype == "int8" else 0
    shape = draw(stn.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9))
    numbers = st.integers(least, least + (1 << bits) - 1)
    return draw(stn.arrays(dtype, shape, elements=numbers)), bits


def pack_by_numpy(codes, bits):
    """The same bytes, one bit at a time."""
    each = codes.reshape(-1, 1).view(np.uint8) >> np.arange(bits, dtype=np.uint8) & 1
    return np.packbits(each, bitorder="little")


@pytest.mark.kernels
@given(codes())
def test_packed_codes_come_back(case):
    codes, bits = case
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    assert packed.shape == (packed_size(codes.size, bits),) == (-(-codes.size * bits // 8),)
    again = unpack(packed, bits, codes.size, codes.dtype.name)
    assert again.dtype == codes.dtype
    np.testing.assert_array_equal(again, codes.reshape(-1))


@pytest.mark.kernels
@given(codes())
def test_bytes_are_those_of_numpy(case):
    codes, bits = case
    np.testing.assert_array_equal(
        pack(codes, bits), pack_by_numpy(np.ascontiguousarray(codes), bits)
    )
    np.testing.assert_array_equal(pack(codes.T, bits), pack(codes.T.copy(), bits))


@given(st.integers(1, 9), st.integers(0, 20), st.randoms())
def test_shuffled_bytes_come_back(itemsize, n, random):
    data = random.randbytes(n * itemsize)
    shuffled = shuffle(data, itemsize)
    assert shuffled[:n] == data[::itemsize]
    assert unshuffle(shuffled, itemsize) == data


@pytest.mark.parametrize("codec", ["best", *INSTALLED])
@given(st.binary(max_size=60), st.integers(1, 8), st.integers(0, 50))
def test_compressed_bytes_come_back(codec, unit, itemsize, repeats):
    data = unit * repeats * itemsize
    blob = compress(data, codec, itemsize=itemsize)
    assert decompress(blob, len(data)) == data
    if codec == "best":
        assert len(blob) <= OVERHEAD + len(data)


@pytest.mark.parametrize("codec", INSTALLED)
@given(st.data())
def test_altered_bytes_are_refused(codec, data):
    raw = data.draw(st.binary(min_size=1, max_size=40)) * data.draw(st.integers(1, 20))
    blob = bytearray(compress(raw, codec))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CompressedError):
        decompress(bytes(blob), 1 << 20)


@pytest.mark.parametrize("codec", INSTALLED)
@given(st.data())
def test_cut_and_extended_bytes_are_refused(codec, data):
    raw = data.draw(st.binary(min_size=1, max_size=40)) * data.draw(st.integers(1, 20))
    blob = compress(raw, codec)
    n = data.draw(st.integers(0, len(blob) - 1))
    tail = data.draw(st.binary(min_size=1, max_size=20))
    for wrong in (blob[:n], blob + tail, blob + blob):
        with pytest.raises(CompressedError):
            decompress(wrong, 1 << 20)


@pytest.mark.parametrize("codec", INSTALLED)
@given(st.data())
def test_any_payload_gives_as_many_bytes_as_stated_or_an_error(codec, data):
    size = data.draw(st.integers(0, 100))
    payload = data.draw(st.binary(max_size=60))
    header = PIECE.pack(CODECS[codec].number, 1, size, len(payload))
    content = START.pack(MAGIC, VERSION, 1) + header + payload
    with suppress(CompressedError):
        assert len(decompress(content + digest(content), 100)) == size
