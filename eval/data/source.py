"""Source: the bytes of a file, a pipe or standard input, decompressed."""

import io
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from eval.data.compression import BUFFER, compression_of, decompress
from ngrammix.reading import read_errors

HEAD = 1 << 16  # bytes that show what a file holds
STDIN = "-"  # the path of standard input
MIN_SIP, MAX_SIP, SIPS = 1 << 9, 1 << 16, 256  # bytes of a read of a compressed file, and reads


@dataclass(frozen=True)
class Content:
    """An open source at its first byte.

    Attributes
    ----------
    name : str
        For error texts.
    stream : BinaryIO
        The content, decompressed.
    head : bytes
        The first `HEAD` bytes of the content, or all of it if there are fewer; `stream` has them
        too.
    compression : str or None
        How the content was compressed.
    stored : BinaryIO
        The bytes as they are stored.
    unpacked : RawIOBase, optional
        What the decompressor makes of them.
    """

    name: str
    stream: BinaryIO
    head: bytes
    compression: str | None
    stored: BinaryIO
    unpacked: io.RawIOBase | None = None

    def position(self) -> int:
        """Number of stored bytes that were used, so that it can be compared with `Source.size`.

        Of compressed content, buffers hold a part that is not used yet: it does not count. The
        position can still be ahead by a block of the compression, such as 128 KiB of Zstandard.
        """
        if self.unpacked is None:
            return self.stored.tell()
        made = self.unpacked.tell()
        return self.stored.tell() * self.stream.tell() // made if made else 0


class Source:
    """A file or a pipe.

    Parameters
    ----------
    path : str
        ``-`` is standard input.
    as_stored : bool
        Leave compressed bytes as they are.
    """

    def __init__(self, path: str, *, as_stored: bool = False) -> None:
        self.path, self._as_stored = path, as_stored
        self.name = "standard input" if path == STDIN else path
        self.is_file = path != STDIN and Path(path).is_file()
        self.size = Path(path).stat().st_size if self.is_file else None
        self._was_read = False

    @contextmanager
    def open(self) -> Iterator[Content]:
        """Open the content at its first byte.

        Raises
        ------
        ValueError
            If a pipe is opened a second time, or a compressed file is damaged.
        """
        if not self.is_file and self._was_read:
            raise ValueError(
                f"a pipe can be read once, got a second iteration over {self.name}; save it to a "
                "file"
            )
        self._was_read = True
        with read_errors(self.name), self._open() as file:
            head, stored = peek(file, is_seekable=self.is_file)
            kind = None if self._as_stored else compression_of(head)
            if kind is None:
                yield Content(self.name, stored, head, kind, stored)
                return
            sip = min(MAX_SIP, max(MIN_SIP, (self.size or MAX_SIP * SIPS) // SIPS))
            unpacked = decompress(_Sips(stored, sip), kind, self.name)
            head, stream = peek(io.BufferedReader(unpacked, BUFFER), is_seekable=False)
            yield Content(self.name, stream, head, kind, stored, unpacked)

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if self.path != STDIN:
            return Path(self.path).open("rb")
        if sys.stdin is None:
            raise ValueError("standard input must be open, got it closed; name a file instead")
        return nullcontext(sys.stdin.buffer)


def is_on_disk(content: Content) -> bool:
    """Whether the content can be read from its path: it is in a file, not compressed as a whole."""
    return content.compression is None and content.stream.seekable()


def path_of(content: Content, what: str) -> str:
    """The path of content that is read in any order; ValueError if it is compressed or in a pipe.

    The error calls the content `what`.
    """
    if not is_on_disk(content):
        how = "in a pipe" if content.compression is None else f"in {content.compression} data"
        raise ValueError(
            f"{what} must be on disk and not compressed as a whole, got it {how} in "
            f"{content.name}; save it as a file, decompressed"
        )
    return content.name


def peek(file: BinaryIO, *, is_seekable: bool) -> tuple[bytes, BinaryIO]:
    """(the first bytes of the file, a stream of all of its bytes)."""
    head = file.read(HEAD)
    if is_seekable:
        file.seek(0)
        return head, file
    return head, io.BufferedReader(_Joined(head, file), HEAD)


class _Sips(io.RawIOBase):
    """A stream that is read a few bytes at a time: the position in it is where its reader is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._file.read(min(len(buffer), self._size))
        buffer[: len(part)] = part
        return len(part)


class _Joined(io.RawIOBase):
    """The bytes that were read from a stream, then the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest, self._position = head, rest, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        part = self._head[: len(buffer)]
        self._head = self._head[len(buffer) :]
        if not part:
            part = self._rest.read1(len(buffer))  # type: ignore[attr-defined]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
