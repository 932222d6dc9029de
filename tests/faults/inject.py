"""Taps on the file operations of this process, and faults at the n-th of them.

A tap is asked before each operation on a path below a folder, and may raise in its place. Files
that are opened there are written through it too: every write that reaches the system is one
operation, whatever was buffered.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

WRITES = ("open to write", "write", "truncate", "fsync", "replace", "mkdir")  # need room on a disk
PATHS = ("open", "open to write", "replace", "unlink", "rmdir", "mkdir", "list", "stat")  # rights
NAMED = {
    "replace": ("rename", "replace"), "unlink": ("unlink", "remove"), "mkdir": ("mkdir",),
    "rmdir": ("rmdir",), "list": ("listdir", "scandir"), "stat": ("stat", "lstat"),
}  # fmt: skip


class Tap:
    """Hears of every operation; this one lets all happen."""

    def before(self, operation: str, path: Path, size: int = 0) -> int:
        """Called before an operation; it returns how many of the `size` bytes may be written."""
        return size

    def after(self, operation: str, path: Path, *details: Any) -> None:
        """Called once an operation has happened; the details depend on it."""


@dataclass
class Fault(Tap):
    """Fails the n-th operation of those that can fail so.

    Attributes
    ----------
    n : int
        From 1.
    kind : int or "short"
        An error number of the system; "short": half of the bytes are written, without an error.
    lasts : bool
        Whether all such operations after it fail too, as on a full disk.
    """

    n: int
    kind: int | str
    lasts: bool = False
    count: int = 0
    hit: str = ""

    def before(self, operation: str, path: Path, size: int = 0) -> int:
        """Count the operation, and fail if it is the one."""
        if operation not in self.operations:
            return size
        self.count += 1
        if self.count != self.n and not (self.lasts and self.count > self.n):
            return size
        self.hit = self.hit or f"{operation} {path.name}"
        if isinstance(self.kind, str):
            return (size + 1) // 2
        text = os.strerror(self.kind)
        if operation in PATHS:
            raise OSError(self.kind, text, str(path))
        raise OSError(self.kind, text)  # of an open file: the system does not say which

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that can fail so."""
        if self.kind == "short":
            return ("write",)
        if self.kind == errno.ENOSPC:
            return WRITES
        return PATHS if self.kind == errno.EACCES else (*PATHS, "read", *WRITES)


class Tapped(io.RawIOBase):
    """An unbuffered file whose reads and writes a tap hears of."""

    def __init__(self, tap: Tap, path: Path, file: io.FileIO) -> None:
        self._tap, self._path, self._file = tap, path, file
        self.name, self.mode = file.name, file.mode

    def readable(self) -> bool:
        return self._file.readable()

    def writable(self) -> bool:
        return self._file.writable()

    def seekable(self) -> bool:
        return self._file.seekable()

    def fileno(self) -> int:
        return self._file.fileno()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int | None:
        self._tap.before("read", self._path)
        return self._file.readinto(buffer)

    def write(self, data: Any) -> int | None:
        size = self._tap.before("write", self._path, len(data))
        at = self._file.tell()
        n = self._file.write(data[:size])
        self._tap.after("write", self._path, at, bytes(data[:n]))
        return n

    def truncate(self, size: int | None = None) -> int:
        self._tap.before("truncate", self._path)
        size = self._file.truncate(size)
        self._tap.after("truncate", self._path, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._file.close()


@contextmanager
def tapped(root: Path, tap: Tap) -> Iterator[None]:
    """In the block, the tap hears of every file operation of this process below `root`."""
    real = {name: getattr(os, name) for names in NAMED.values() for name in names}
    real |= {name: getattr(os, name) for name in ("open", "fsync", "ftruncate", "write")}
    open_file = io.open

    def within(path: Any) -> Path | None:
        """The path below `root` that an operation is on; None for any other."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115
            except OSError:
                return None
        whole = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  resolve calls stat
        return whole if whole.is_relative_to(root) else None

    def on_path(operation: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            here = within(path)
            if here is None:
                return function(path, *arguments, **options)
            tap.before(operation, here)
            result = function(path, *arguments, **options)
            tap.after(operation, here, *arguments)
            return result

        return call

    def open_number(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        here = within(path)
        if here is None:
            return real["open"](path, flags, *arguments, **options)
        is_written = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        tap.before("open to write" if is_written else "open", here)
        number: int = real["open"](path, flags, *arguments, **options)
        tap.after("create" if is_written else "opened", here, "")
        return number

    def write_number(number: int, data: Any) -> int:
        here = within(number)
        if here is None:
            return int(real["write"](number, data))
        size = tap.before("write", here, len(data))
        at = os.lseek(number, 0, os.SEEK_CUR)
        n: int = real["write"](number, data[:size])
        tap.after("write", here, at, bytes(data[:n]))
        return n

    def open_tapped(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
        newline: Any = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        here = within(file)
        if here is None:
            return open_file(file, mode, buffering, encoding, errors, newline, closefd, opener)
        is_written = any(letter in mode for letter in "wax+")
        if not isinstance(file, int):
            tap.before("open to write" if is_written else "open", here)
        letters = mode.replace("b", "").replace("t", "")
        raw = Tapped(tap, here, io.FileIO(file, letters, closefd, opener))
        tap.after("create" if is_written else "opened", here, mode)
        if buffering == 0:
            return raw
        kind: Any = io.BufferedReader
        if is_written:
            kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffered = kind(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
        text.mode = mode
        return text

    patches = {
        name: on_path(operation, real[name]) for operation, names in NAMED.items() for name in names
    }
    patches |= {"fsync": on_path("fsync", real["fsync"]), "open": open_number}
    patches["write"] = write_number
    patches["ftruncate"] = on_path("truncate", real["ftruncate"])
    by_io, by_name = patch("io.open", open_tapped), patch("builtins.open", open_tapped)
    with patch.multiple(os, **patches), by_io, by_name:
        yield
