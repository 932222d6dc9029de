"""Compressed files: recognised by their first bytes, read as a stream in bounded memory."""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

# The first bytes of each format. A bzip2 block, or the end, follows the digit of its level.
GZIP, XZ, LZ4 = b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x04\x22\x4d\x18"
ZSTD = b"\x28\xb5\x2f\xfd"
BZIP2, BZIP2_BLOCKS = b"BZh", (b"1AY&SY", b"\x17rE8P\x90")
SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2", ".lz4")
MAX_XZ_MEMORY = 1 << 28  # bytes, 256 MiB: dictionaries up to 128 MiB, as the windows of Zstandard
BUFFER = 1 << 16  # bytes of a read


def compression_of(head: bytes) -> str | None:
    """The compression that the first bytes of a file show; None if it is not compressed."""
    if head.startswith(GZIP):
        return "gzip"
    if head.startswith(ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"  # the second is a frame that readers skip
    if head.startswith(XZ):
        return "xz"
    if head.startswith(BZIP2) and head[4:10] in BZIP2_BLOCKS:
        return "bz2"
    return "lz4" if head.startswith(LZ4) else None


def decompress(file: Any, kind: str, name: str) -> io.RawIOBase:
    """The decompressed bytes of a file, all of its streams one after the other; not buffered.

    Raises
    ------
    ValueError
        While reading, if the file is damaged or cut short, or needs too much memory.
    """
    chunks: Iterator[bytes | memoryview]
    if kind == "gzip":
        chunks = iter(partial(gzip.GzipFile(fileobj=file).read1, BUFFER), b"")
    elif kind == "xz":
        chunks = xz_chunks(file)
    else:
        chunks = arrow_chunks(file, kind)
    return _Checked(chunks, kind, name)


def arrow_chunks(file: BinaryIO, kind: str) -> Iterator[memoryview]:
    """The decompressed bytes of a file in parts, each valid until the next is asked for."""
    import pyarrow  # detects a file that is cut short, unlike the reader of zstandard

    stream, part = pyarrow.CompressedInputStream(file, kind), bytearray(BUFFER)
    while n := stream.readinto(part):  # after an error, `read` never frees what it was to return
        yield memoryview(part)[:n]


def xz_chunks(file: BinaryIO) -> Iterator[bytes]:
    """The decompressed bytes of an .xz file in parts; the library's own reader skips damage."""
    rest = file.read(BUFFER)
    while rest:
        reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)
        while not reader.eof:
            if not rest and reader.needs_input and not (rest := file.read(BUFFER)):
                raise EOFError("the end of a stream is missing")
            if part := reader.decompress(rest, BUFFER):
                yield part
            rest = b""
        rest = reader.unused_data or file.read(BUFFER)
        while rest and not (rest := rest.lstrip(b"\0")):  # the padding between streams
            rest = file.read(BUFFER)


class _Checked(io.RawIOBase):
    """A stream of chunks of bytes; its errors become one ValueError that names the file."""

    def __init__(self, chunks: Iterator[bytes | memoryview], kind: str, name: str) -> None:
        self._chunks, self._kind, self._name = chunks, kind, name
        self._rest = memoryview(b"")
        self._n_read = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._n_read

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            try:
                self._rest = memoryview(next(self._chunks, b""))
            # pyarrow raises OSError.
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise ValueError(
                    f"{self._name} must be a complete {self._kind} file, got an error after "
                    f"{self._n_read} bytes of its content ({error}); download or compress it again"
                ) from error
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        self._n_read += len(part)
        return len(part)
