"""compress and decompress: the smallest is kept, and every refusal."""

import sys
import tracemalloc
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
import zstandard

from quant.io.codecs import CODECS, LZMA_SETTINGS, ZSTD_LEVELS
from quant.io.compress import CHECKSUM, HEADER, START, compress, decompress, read_header

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


def make(codec, payload, size, *, setting=0, itemsize=1, raw=b""):
    """A blob that says what it is told to."""
    header = HEADER.pack(CODECS[codec].number, itemsize, setting, size)
    return header + CHECKSUM.pack(crc32(raw, crc32(header))) + payload


@pytest.fixture
def codes(rng):
    """Codes of 6 bits, as bytes."""
    return np.rint(rng.normal(0, 2.4, 50_000)).astype(np.int8).tobytes()


def test_best_is_the_smallest_of_all_installed(codes, rng):
    sizes = {name: len(compress(codes, name)) for name, its in CODECS.items() if its.is_installed}
    assert len(compress(codes)) == min(sizes.values()) < 0.5 * len(codes)
    noise = rng.bytes(1000)
    assert len(compress(noise)) == START + 1000
    assert read_header(compress(noise)).codec == CODECS["none"].number


def test_every_level_is_tried(codes):
    by_level = [zstandard.ZstdCompressor(level=level).compress(codes) for level in ZSTD_LEVELS]
    assert len(compress(codes, "zstd")) == START + min(map(len, by_level))


@pytest.mark.parametrize("codec", codecs("best", *CODECS))
def test_bytes_are_shuffled_where_that_is_smaller(codec, rng):
    floats = rng.normal(1, 0.1, 2000).astype(np.float32).tobytes()
    text = b"abcd" * 500
    for data, is_smaller in ((floats, codec != "none"), (text, False)):
        blob = compress(data, codec, itemsize=4)
        assert read_header(blob).itemsize == (4 if is_smaller else 1)
        assert len(blob) <= len(compress(data, codec))
        assert decompress(blob, len(data)) == data


@pytest.mark.parametrize("codec", codecs("best", *CODECS))
def test_nothing_is_a_header(codec):
    blob = compress(b"", codec, itemsize=8)
    assert len(blob) == START
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
    assert read_header(compress(codes)).codec == CODECS["zstd"].number
    brotli = (
        "codec brotli needs the module brotli, which is missing; pip install 'ngrammix[brotli]'"
    )
    lzma = (
        "codec lzma needs the module lzma, which is missing; take a Python that was built with it"
    )
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
    header = read_header(blob)
    lying = make(codec, blob[START:], 1000, setting=header.setting)
    tracemalloc.start()
    try:
        text = refusal(decompress, lying, 1 << 40)
        assert tracemalloc.get_traced_memory()[1] < BOMB / 16
    finally:
        tracemalloc.stop()
    what = {
        "zstd": f"a frame of {BOMB} bytes",
        "brotli": "32752 bytes or more where 1000 belong",
        "lzma": "1001 bytes or more where 1000 belong",
    }
    assert text == damaged(what[codec])


def test_frames_without_their_size_are_refused():
    press = zstandard.ZstdCompressor(write_content_size=False)
    blob = make("zstd", press.compress(bytes(1000)), 1000, raw=bytes(1000))
    assert refusal(decompress, blob, 1000) == damaged("a frame of -1 bytes")


def test_blobs_that_make_no_sense_are_refused():
    data = b"0123456789" * 10
    whole = compress(data, "zstd")
    payload = zstandard.compress(data)
    for blob, what in [
        (b"", "0 bytes, less than a header"),
        (whole[: START - 1], "14 bytes, less than a header"),
        (b"\x09" + whole[1:], "codec 9"),
        (make("none", data, 100, itemsize=0), "100 bytes in items of 0"),
        (make("none", data, 100, itemsize=3), "100 bytes in items of 3"),
        (make("none", data, 0), "a payload of nothing"),
        (make("none", data, 99), "100 bytes or more where 99 belong"),
        (make("none", data, 101), "100 bytes or more where 101 belong"),
        (make("none", data, 100, raw=data[1:]), "another checksum"),
        (make("none", data, 100, setting=1, raw=data), "setting 1"),
        (make("zstd", payload, 100, setting=1, raw=data), "setting 1"),
        (make("zstd", payload, 99), "a frame of 100 bytes"),
        (make("lzma", b"", 100, setting=255), "setting 255"),
    ]:
        assert refusal(decompress, blob, 1000) == damaged(what)


@pytest.mark.parametrize("codec", codecs("zstd", "brotli", "lzma"))
def test_every_cut_and_every_tail_is_refused(codec):
    blob = compress(b"0123456789" * 30, codec)
    for n in range(len(blob)):
        assert refusal(decompress, blob[:n], 1000).startswith("compressed data must be as ")
    for tail in (b"\0", b"x", blob[START:]):
        assert refusal(decompress, blob + tail, 1000).startswith("compressed data must be as ")


@pytest.mark.parametrize("setting", LZMA_SETTINGS)
def test_every_setting_of_lzma_comes_back(setting, codes, monkeypatch):
    monkeypatch.setattr("quant.io.codecs.LZMA_SETTINGS", (setting,))
    blob = compress(codes, "lzma")
    assert decompress(blob, len(codes)) == codes
    lc, lp, pb = setting
    assert read_header(blob).setting == (pb * 5 + lp) * 9 + lc
