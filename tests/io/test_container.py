"""compress and decompress: the smallest is kept, and every refusal."""

import struct
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from quant.io.codecs import CODECS, LZMA_SETTINGS, ZSTD_LEVELS
from quant.io.container import (
    MAGIC,
    OVERHEAD,
    PIECE,
    START,
    VERSION,
    compress,
    compress_pieces,
    decompress,
    digest,
)

BOMB = 1 << 22


def codecs(*names):
    """Names of codecs, those that are missing skipped."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name != "best" and not CODECS[name].is_installed, reason=f"{name} is not installed"
            ),
        )
        for name in names
    ]


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def damaged(what):
    return f"compressed data must be as compress made them, got {what}; use another copy"


def signed(content, *, version=VERSION, n_pieces=1):
    """A container of the content, whatever it is, with the right checksum."""
    content = START.pack(MAGIC, version, n_pieces) + content
    return content + digest(content)


def make(codec, payload, size, *, itemsize=1):
    """A container of one piece that states what it is told to."""
    return signed(PIECE.pack(CODECS[codec].number, itemsize, size, len(payload)) + payload)


def header_of(blob):
    """(codec, itemsize, raw size, compressed size) of the first piece."""
    return PIECE.unpack_from(blob, START.size)


def payload_of(blob):
    return blob[START.size + PIECE.size : START.size + PIECE.size + header_of(blob)[3]]


@pytest.fixture
def codes(rng):
    """Codes of 6 bits, as bytes."""
    return np.rint(rng.normal(0, 2.4, 50_000)).astype(np.int8).tobytes()


def test_best_is_the_smallest_of_all_installed(codes, rng):
    sizes = {name: len(compress(codes, name)) for name, each in CODECS.items() if each.is_installed}
    assert len(compress(codes)) == min(sizes.values()) < 0.5 * len(codes)
    noise = rng.bytes(1000)
    assert len(compress(noise)) == OVERHEAD + 1000
    assert header_of(compress(noise))[0] == CODECS["none"].number


def test_every_level_is_tried(codes):
    by_level = [zstandard.ZstdCompressor(level=level).compress(codes) for level in ZSTD_LEVELS]
    assert len(compress(codes, "zstd")) == OVERHEAD + min(map(len, by_level))


@pytest.mark.parametrize("codec", codecs("best", *CODECS))
def test_bytes_are_shuffled_where_that_is_smaller(codec, rng):
    floats = rng.normal(1, 0.1, 2000).astype(np.float32).tobytes()
    text = b"abcd" * 500
    for data, is_smaller in ((floats, codec != "none"), (text, False)):
        blob = compress(data, codec, itemsize=4)
        assert header_of(blob)[1] == (4 if is_smaller else 1)
        assert len(blob) <= len(compress(data, codec))
        assert decompress(blob, len(data)) == data


@pytest.mark.parametrize("codec", codecs("best", *CODECS))
def test_nothing_is_a_header(codec):
    blob = compress(b"", codec, itemsize=8)
    assert len(blob) == OVERHEAD
    assert decompress(blob, 0) == b""


def test_the_same_bytes_every_time(codes):
    assert compress(codes, itemsize=2) == compress(codes, itemsize=2)


def test_what_cannot_be_compressed_is_refused():
    assert refusal(compress, b"abc", "zip") == (
        "codec must be one of best, none, zstd, brotli, lzma, got 'zip'; correct it"
    )
    assert refusal(compress, b"abc", itemsize=2) == (
        "data must be whole items of 2 bytes, got 3 bytes; correct itemsize"
    )
    assert refusal(compress, b"abc", itemsize=0) == (
        "itemsize must be an integer in 1..255, got 0; correct it"
    )


@pytest.mark.parametrize("old", [None, SimpleNamespace(), SimpleNamespace(Decompressor=object)])
def test_best_does_without_what_is_missing(monkeypatch, codes, old):
    # missing, a folder of that name, or without a bound to what comes out
    monkeypatch.setitem(sys.modules, "brotli", old)
    monkeypatch.setitem(sys.modules, "lzma", None)
    assert header_of(compress(codes))[0] == CODECS["zstd"].number
    brotli = (
        "codec brotli needs the module brotli, which is missing; pip install 'ngrammix[brotli]'"
    )
    lzma = "codec lzma needs the module lzma, which is missing; use a Python that was built with it"
    assert refusal(compress, codes, "brotli") == brotli
    assert refusal(decompress, make("brotli", b"", 1), 1) == brotli
    assert refusal(compress, codes, "lzma") == lzma
    assert refusal(decompress, make("lzma", b"", 1), 1) == lzma


@pytest.mark.parametrize("codec", codecs(*CODECS))
def test_more_than_permitted_is_refused_before_it_is_made(codec):
    blob = compress(bytes(100), codec)
    assert decompress(blob, 100) == bytes(100)
    assert refusal(decompress, blob, 99) == (
        "compressed data must hold at most 99 bytes, got 100; raise max_bytes if you trust them"
    )


@pytest.mark.parametrize("codec", codecs("zstd", "brotli", "lzma"))
def test_bombs_are_refused_before_they_go_off(codec):
    blob = compress(bytes(BOMB), codec)
    lying = make(codec, payload_of(blob), 1000)
    tracemalloc.start()
    try:
        text = refusal(decompress, lying, 1 << 40)
        assert tracemalloc.get_traced_memory()[1] < BOMB / 16
    finally:
        tracemalloc.stop()
    what = {
        "zstd": f"a zstd frame of {BOMB} bytes",
        "brotli": "32752 bytes or more in a piece of 1000",
        "lzma": "Memory usage limit exceeded",
    }
    assert text == damaged(what[codec])


@pytest.mark.parametrize("codec", codecs("lzma"))
def test_a_piece_that_holds_more_than_it_states_is_refused(codec):
    lying = make(codec, payload_of(compress(bytes(3000), codec)), 1000)
    assert refusal(decompress, lying, 1000) == damaged("1001 bytes or more in a piece of 1000")


def test_frames_without_their_size_are_refused():
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    blob = make("zstd", compressor.compress(bytes(1000)), 1000)
    assert refusal(decompress, blob, 1000) == damaged("a zstd frame of -1 bytes")


def test_containers_of_another_kind_or_version_are_refused():
    whole = compress(b"0123456789", "none")
    assert refusal(decompress, b"PK\3\4", 99) == (
        "compressed data must begin with NGXQUANT, got b'PK\\x03\\x04'; pass what compress or save "
        "made"
    )
    assert refusal(decompress, signed(whole, version=1), 99) == (
        "compressed data must be of version 2, got version 1; read them with the ngrammix that "
        "wrote them, or quantize and save again"
    )
    assert refusal(decompress, whole[:-1], 99) == damaged("another checksum")
    assert refusal(decompress, whole[:20], 99) == damaged("20 bytes, fewer than a header")


def test_containers_that_make_no_sense_are_refused():
    data = b"0123456789" * 10
    payload = zstandard.compress(data)
    for blob, what in [
        (signed(b"", n_pieces=2), "28 bytes, fewer than 2 headers of pieces"),
        (signed(PIECE.pack(0, 1, 9, 9) + b"12345678"), "38 bytes where its pieces need 39"),
        (signed(PIECE.pack(0, 1, 7, 7) + b"12345678"), "38 bytes where its pieces need 37"),
        (
            signed(PIECE.pack(0, 1, 7, (1 << 64) - 1)),
            f"30 bytes where its pieces need {(1 << 64) + 29}",
        ),
        (signed(PIECE.pack(9, 1, 8, 8) + b"12345678"), "codec 9"),
        (make("none", data, 100, itemsize=0), "100 bytes in items of 0"),
        (make("none", data, 100, itemsize=3), "100 bytes in items of 3"),
        (make("none", data, 0), "100 bytes or more in a piece of 0"),
        (make("none", data, 99), "100 bytes or more in a piece of 99"),
        (make("none", data, 101), "100 bytes or more in a piece of 101"),
        (make("zstd", payload, 99), "a zstd frame of 100 bytes"),
        (make("lzma", b"", 100), "an xz stream without an end"),
    ]:
        assert refusal(decompress, blob, 1000) == damaged(what)
    assert struct.calcsize("<BBQQ") == PIECE.size


def test_pieces_come_back_joined(rng):
    pieces = [(b"text " * 40, 1), (rng.normal(size=50).tobytes(), 8), (b"", 4), (b"x", 1)]
    blob = compress_pieces(pieces)
    assert decompress(blob, 1000) == b"".join(data for data, _ in pieces)
    assert len(blob) == OVERHEAD + 3 * PIECE.size + sum(
        len(payload_of(compress(data, itemsize=itemsize))) for data, itemsize in pieces
    )
    assert decompress(compress_pieces([]), 0) == b""
    assert refusal(decompress, blob, 600) == (
        "compressed data must hold at most 600 bytes, got 601; raise max_bytes if you trust them"
    )


@pytest.mark.parametrize("codec", codecs("zstd", "brotli", "lzma"))
def test_every_cut_and_every_tail_is_refused(codec):
    blob = compress(b"0123456789" * 30, codec)
    for n in range(len(blob)):
        assert refusal(decompress, blob[:n], 1000).startswith("compressed data must ")
    payload = payload_of(blob)
    for n in range(len(payload)):  # the checksum is right
        assert refusal(decompress, make(codec, payload[:n], 300), 1000).startswith("compressed ")
    for tail in (b"\0", b"x", payload):
        assert refusal(decompress, blob + tail, 1000) == damaged("another checksum")
        assert refusal(decompress, make(codec, payload + tail, 300), 1000).startswith("compressed ")


@pytest.mark.parametrize("setting", LZMA_SETTINGS)
def test_every_setting_of_lzma_comes_back(setting, codes, monkeypatch):
    monkeypatch.setattr("quant.io.codecs.LZMA_SETTINGS", (setting,))
    assert decompress(compress(codes, "lzma"), len(codes)) == codes
