"""Bytes in as few bytes as the codecs at hand can make of them, and back, safely.

Layout: codec, bytes of an item if they are shuffled (1 if not) and setting (u8 each), number of
raw bytes (u64), CRC-32 of all this and the raw bytes (u32), all little-endian; then the codec's
payload.
"""

import struct
from typing import NamedTuple
from zlib import crc32

import numpy as np

from quant.base.config import check_choice, check_int
from quant.io.codecs import CODECS, CodecError

HEADER = struct.Struct("<BBBQ")
CHECKSUM = struct.Struct("<I")
START = HEADER.size + CHECKSUM.size
NAMES = ("best", *CODECS)
BY_NUMBER = {codec.number: codec for codec in CODECS.values()}


class CompressedError(ValueError):
    """Data that `compress` did not make."""


class Header(NamedTuple):
    """What compressed bytes say of themselves."""

    codec: int
    itemsize: int
    setting: int
    size: int


def compress(data: bytes, codec: str = "best", *, itemsize: int = 1) -> bytes:
    """The smallest of all that the codec, or each codec that is installed, makes of the data.

    The slowest settings are among those tried: a second or more a megabyte.

    Parameters
    ----------
    data : bytes
    codec : "best", "none", "zstd", "brotli" or "lzma"
    itemsize : int in 1..255
        Bytes of a number, if the data are numbers: first bytes first, then second bytes, and so on
        is tried as well.

    Raises
    ------
    ValueError
        If the codec is unknown or missing, or the data are no whole items.
    """
    check_choice(codec, "codec", NAMES)
    check_int(itemsize, "itemsize", 1, 255)
    if len(data) % itemsize:
        raise ValueError(
            f"data must be whole items of {itemsize} bytes, got {len(data)} bytes; correct itemsize"
        )
    if not data:
        codec = "none"
    codecs = [its for its in CODECS.values() if its.is_installed]
    header, payload = min(
        (
            (HEADER.pack(its.number, stride, setting, len(data)), payload)
            for stride in sorted({1, itemsize})
            for its in (codecs if codec == "best" else [CODECS[codec]])
            for setting, payload in its.press(shuffle(data, stride))
        ),
        key=lambda made: len(made[1]),
    )
    return header + _checksum(header, data) + payload


def decompress(blob: bytes, max_bytes: int) -> bytes:
    """The data that `compress` was given.

    Parameters
    ----------
    blob : bytes
    max_bytes : int >= 0
        Most bytes that may come out; what would be more is refused before it is allocated.

    Raises
    ------
    CompressedError
        If the blob is cut short, longer than it was, or altered.
    ValueError
        If it is too much, or its codec is not installed.
    """
    header = read_header(blob)
    if header.size > max_bytes:
        raise ValueError(
            f"compressed data must hold at most {max_bytes} bytes, got {header.size}; raise "
            "max_bytes if you trust them"
        )
    codec = BY_NUMBER[header.codec]
    try:
        shuffled = codec.expand(blob[START:], header.setting, header.size)
    except CodecError as error:
        raise damaged(str(error)) from error
    if len(shuffled) != header.size:
        raise damaged(f"{len(shuffled)} bytes or more where {header.size} belong")
    data = unshuffle(shuffled, header.itemsize)
    if _checksum(blob[: HEADER.size], data) != blob[HEADER.size : START]:
        raise damaged("another checksum")
    return data


def read_header(blob: bytes) -> Header:
    """What compressed data say of themselves; ValueError if `compress` never says so."""
    if len(blob) < START:
        raise damaged(f"{len(blob)} bytes, less than a header")
    header = Header(*HEADER.unpack_from(blob))
    if header.codec not in BY_NUMBER:
        raise damaged(f"codec {header.codec}")
    if header.itemsize == 0 or header.size % header.itemsize:
        raise damaged(f"{header.size} bytes in items of {header.itemsize}")
    if header.size == 0 and len(blob) != START:
        raise damaged("a payload of nothing")
    return header


def shuffle(data: bytes, itemsize: int) -> bytes:
    """First bytes of all items, then second bytes, and so on."""
    if itemsize == 1:
        return data
    return np.frombuffer(data, np.uint8).reshape(-1, itemsize).T.tobytes()


def unshuffle(data: bytes, itemsize: int) -> bytes:
    """What was shuffled."""
    if itemsize == 1:
        return data
    return np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()


def damaged(what: str) -> CompressedError:
    """Error that says what is wrong with data."""
    return CompressedError(
        f"compressed data must be as compress made them, got {what}; use another copy"
    )


def _checksum(header: bytes, data: bytes) -> bytes:
    return CHECKSUM.pack(crc32(data, crc32(header)))
