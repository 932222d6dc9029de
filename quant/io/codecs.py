"""Compression codecs behind one interface: none, zstd, brotli and lzma.

Decompression is safe on hostile input: each codec is told how many bytes must come out, and
allocates no more than that.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import zstandard

ZSTD_LEVELS = (3, 9, 19, 22)  # the fastest is often the best on codes that look like noise
LZMA_SETTINGS = ((3, 0, 2), (0, 0, 0), (4, 0, 0), (0, 2, 2))  # (lc, lp, pb): text, bytes, words
MIN_LZMA_WINDOW, MAX_LZMA_WINDOW = 1 << 12, 1 << 26  # bytes
LZMA_STATE = 1 << 20  # bytes: most that an lzma decoder needs beside its window
INSTALL = {"brotli": "pip install 'ngrammix[brotli]'"}


Buffer = bytes | memoryview


class CodecError(ValueError):
    """A payload that the codec did not make; the text says in a few words what is wrong."""


class Codec(NamedTuple):
    """One codec.

    Attributes
    ----------
    number : int
        Number of the codec in a file.
    module : str
        Module that must be installed.
    n_settings : int
        How many settings `compress` tries.
    compress : callable
        data -> iterator of payloads, one for each setting.
    decompress : callable
        (payload, size) -> data, of `size` bytes or (at most a buffer) more if the payload holds
        more; CodecError if the payload is invalid.
    """

    number: int
    module: str
    n_settings: int
    compress: Callable[[bytes], Iterator[bytes]]
    decompress: Callable[[Buffer, int], Buffer]

    @property
    def is_installed(self) -> bool:
        """Whether the module is installed."""
        return _find(self.module) is not None


def compress_none(data: bytes) -> Iterator[bytes]:
    """The data, not compressed."""
    yield data


def decompress_none(payload: Buffer, size: int) -> Buffer:
    """The payload, which is the data."""
    return payload


def compress_zstd(data: bytes) -> Iterator[bytes]:
    """One frame for each level; a frame states the size of its content."""
    for level in ZSTD_LEVELS:
        yield zstandard.ZstdCompressor(level=level).compress(data)


def decompress_zstd(payload: Buffer, size: int) -> bytes:
    """Content of the one frame of a payload.

    The decoder allocates what the frame states, whatever limit it is given, so the stated size is
    checked first. It allocates no window beside it.
    """
    try:
        stated = zstandard.frame_content_size(payload)
        if stated != size:
            raise CodecError(f"a zstd frame of {stated} bytes")
        return zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(str(error)) from error


def compress_brotli(data: bytes) -> Iterator[bytes]:
    """One stream of the slowest setting, with the widest window that every decoder accepts."""
    yield _load("brotli").compress(data, quality=11, lgwin=24)


def decompress_brotli(payload: Buffer, size: int) -> bytes:
    """Content of a brotli stream; decoding stops once it exceeds `size`."""
    brotli = _load("brotli")
    decoder = brotli.Decompressor()
    try:
        data: bytes = decoder.process(payload, output_buffer_limit=size + 1)
    except brotli.error as error:
        raise CodecError(str(error)) from error
    if len(data) <= size and not decoder.is_finished():
        raise CodecError("a brotli stream without an end")
    return data


def compress_lzma(data: bytes) -> Iterator[bytes]:
    """One xz stream for each setting of (lc, lp, pb), the context that predicts a byte."""
    lzma = _load("lzma")
    for lc, lp, pb in LZMA_SETTINGS:
        options = {"dict_size": _lzma_window(len(data)), "lc": lc, "lp": lp, "pb": pb}
        preset = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
        yield lzma.compress(data, check=lzma.CHECK_NONE, filters=[preset | options])


def decompress_lzma(payload: Buffer, size: int) -> bytes:
    """Content of one xz stream; decoding stops once it exceeds `size`."""
    lzma = _load("lzma")
    # The window that a stream states is rounded up, to at most 1.5 times what was asked for.
    memory_limit = 2 * _lzma_window(size) + LZMA_STATE
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=memory_limit)
    try:
        data: bytes = decoder.decompress(payload, size + 1)
    except lzma.LZMAError as error:
        raise CodecError(str(error)) from error
    if len(data) <= size and not decoder.eof:
        raise CodecError("an xz stream without an end")
    if decoder.unused_data:
        raise CodecError(f"{len(decoder.unused_data)} bytes after the xz stream")
    return data


def _lzma_window(size: int) -> int:
    return min(max(size, MIN_LZMA_WINDOW), MAX_LZMA_WINDOW)


def _load(module: str) -> Any:
    """The module; ValueError that says how to install it if it is missing."""
    loaded = _find(module)
    if loaded is None:
        mend = INSTALL.get(module, "use a Python that was built with it")
        raise ValueError(f"codec {module} needs the module {module}, which is missing; {mend}")
    return loaded


def _find(module: str) -> Any:
    """The module, or None if it is missing; brotli before 1.2 cannot bound its output."""
    try:
        loaded = import_module(module)
    except ImportError:
        return None
    if module == "brotli":
        decompressor = getattr(loaded, "Decompressor", None)
        return loaded if hasattr(decompressor, "can_accept_more_data") else None
    return loaded


CODECS = {
    "none": Codec(0, "builtins", 1, compress_none, decompress_none),
    "zstd": Codec(1, "zstandard", len(ZSTD_LEVELS), compress_zstd, decompress_zstd),
    "brotli": Codec(2, "brotli", 1, compress_brotli, decompress_brotli),
    "lzma": Codec(3, "lzma", len(LZMA_SETTINGS), compress_lzma, decompress_lzma),
}
