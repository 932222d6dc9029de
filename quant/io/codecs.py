"""The codecs behind one shape: what they can make of some bytes, and these bytes back.

What is read is hostile until it is decoded: each knows how many bytes must come out, and neither
makes more of them nor believes less.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import zstandard

Tries = Iterator[tuple[int, bytes]]  # (setting that decoding needs, payload)

ZSTD_LEVELS = (3, 9, 19, 22)  # the fastest is often the best on codes that look like noise
LZMA_SETTINGS = ((3, 0, 2), (0, 0, 0), (4, 0, 0), (0, 2, 2))  # (lc, lp, pb): text, bytes, words
LZMA_WINDOWS = (1 << 12, 1 << 26)  # bytes
MENDS = {"brotli": "pip install 'ngrammix[brotli]'"}


class CodecError(ValueError):
    """A payload that its codec did not make; the text says what is wrong, in a few words."""


class Codec(NamedTuple):
    """One codec.

    Attributes
    ----------
    number : int
        Its name in a file.
    module : str
        What must be installed.
    press : data -> (setting in 0..255, payload), several of them
    expand : (payload, setting, number of bytes) -> data of that many bytes; CodecError
    """

    number: int
    module: str
    press: Callable[[bytes], Tries]
    expand: Callable[[bytes, int, int], bytes]

    @property
    def is_installed(self) -> bool:
        """Whether its module is there."""
        return _find(self.module) is not None


def press_none(data: bytes) -> Tries:
    """The bytes themselves."""
    yield 0, data


def expand_none(payload: bytes, setting: int, size: int) -> bytes:
    """The bytes themselves."""
    if setting != 0:
        raise CodecError(f"setting {setting}")
    return payload


def press_zstd(data: bytes) -> Tries:
    """A frame that states its size, by level."""
    for level in ZSTD_LEVELS:
        yield 0, zstandard.ZstdCompressor(level=level).compress(data)


def expand_zstd(payload: bytes, setting: int, size: int) -> bytes:
    """What the one frame holds.

    Its own size is what the decoder allocates, whatever limit it is given: so that is looked at
    first. No window is allocated beside it.
    """
    if setting != 0:
        raise CodecError(f"setting {setting}")
    try:
        stated = zstandard.frame_content_size(payload)
        if stated != size:
            raise CodecError(f"a frame of {stated} bytes")
        return zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(str(error)) from error


def press_brotli(data: bytes) -> Tries:
    """The slowest and smallest, with the widest window that every decoder takes."""
    yield 0, _load("brotli").compress(data, quality=11, lgwin=24)


def expand_brotli(payload: bytes, setting: int, size: int) -> bytes:
    """What the stream holds, up to where it is too much."""
    if setting != 0:
        raise CodecError(f"setting {setting}")
    brotli = _load("brotli")
    decoder = brotli.Decompressor()
    try:
        data: bytes = decoder.process(payload, output_buffer_limit=size + 1)
    except brotli.error as error:
        raise CodecError(str(error)) from error
    if len(data) <= size and not decoder.is_finished():
        raise CodecError("no end")
    return data


def press_lzma(data: bytes) -> Tries:
    """A raw stream, by what a byte is guessed from."""
    lzma = _load("lzma")
    for lc, lp, pb in LZMA_SETTINGS:
        setting = (pb * 5 + lp) * 9 + lc
        filters = _lzma_filters(setting, len(data))
        yield setting, lzma.compress(data, lzma.FORMAT_RAW, filters=filters)


def expand_lzma(payload: bytes, setting: int, size: int) -> bytes:
    """What the stream holds, up to where it is too much; its window is no wider than `size`."""
    lzma = _load("lzma")
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_lzma_filters(setting, size))
        data: bytes = decoder.decompress(payload, size + 1)
    except lzma.LZMAError as error:
        raise CodecError(str(error)) from error
    if len(data) <= size and not decoder.eof:
        raise CodecError("no end")
    if decoder.unused_data:
        raise CodecError(f"{len(decoder.unused_data)} bytes behind its end")
    return data


def _lzma_filters(setting: int, size: int) -> list[dict[str, int]]:
    """The one filter of a raw stream, which states neither its setting nor its window."""
    lzma = _load("lzma")
    rest, lc = divmod(setting, 9)
    pb, lp = divmod(rest, 5)
    if (lc, lp, pb) not in LZMA_SETTINGS:
        raise CodecError(f"setting {setting}")
    least, most = LZMA_WINDOWS
    window = min(max(size, least), most)
    preset = 9 | lzma.PRESET_EXTREME
    options = {"preset": preset, "dict_size": window, "lc": lc, "lp": lp, "pb": pb}
    return [{"id": lzma.FILTER_LZMA2} | options]


def _load(module: str) -> Any:
    """A module; ValueError that says how to get it where it is missing."""
    found = _find(module)
    if found is None:
        mend = MENDS.get(module, "take a Python that was built with it")
        raise ValueError(f"codec {module} needs the module {module}, which is missing; {mend}")
    return found


def _find(module: str) -> Any:
    """A module, or None where it is missing; brotli before 1.2 has no limit to what comes out."""
    try:
        found = import_module(module)
    except ImportError:
        return None
    if module == "brotli":
        decompressor = getattr(found, "Decompressor", None)
        return found if hasattr(decompressor, "can_accept_more_data") else None
    return found


CODECS = {
    "none": Codec(0, "builtins", press_none, expand_none),
    "zstd": Codec(1, "zstandard", press_zstd, expand_zstd),
    "brotli": Codec(2, "brotli", press_brotli, expand_brotli),
    "lzma": Codec(3, "lzma", press_lzma, expand_lzma),
}
