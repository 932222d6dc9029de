"""Files that are written whole or not at all.

A file is written beside its place under another name, synced to disk, and renamed; then its folder
is synced. So a process that is killed, or a machine that loses power, leaves the old file or the
new one. The writer holds a lock on the file beside it, which the system frees when the process
ends, however it ends. A file of such a name without a lock is what a dead process has left, and
the next writer in that folder removes it.
"""

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Random bits, not process ids: these are the same in two containers that share a disk.
PART = re.compile(r"\.ngrammix-[0-9a-f]{16}\.part")
TRIES = 100  # to make a file that nobody removes
RESERVED = 1 << 62  # where Windows locks a byte: far behind the content, which stays readable
KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFLNK: "a link",
}  # fmt: skip
ROOM, RIGHTS, OTHER = "make room on its disk", "get the right to write there", "name another"
MENDS = {
    errno.ENOSPC: ROOM, errno.EDQUOT: ROOM, errno.EFBIG: "raise the limit on the size of a file",
    errno.EACCES: RIGHTS, errno.EPERM: RIGHTS, errno.EROFS: RIGHTS, errno.EIO: "check its disk",
    errno.ENOENT: "put its folder back",
}  # fmt: skip


class WriteError(ValueError):
    """Raised if the system refuses to write a file; the text names the file and what helps."""


@contextmanager
def replaced(path: Path, what: str) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends, unless by an error.

    A link at `path` is replaced itself; what it leads to stays.

    Parameters
    ----------
    path : Path
        A file, or nothing yet.
    what : str
        The content, in the plural, as the errors name it.

    Raises
    ------
    ValueError
        If no file can take the place of `path`, or the system refuses to write it. The old file
        stays then.
    """
    with write_errors(path, what):
        check_place(path, what)
        remove_dead(path.parent)
        part, file = open_part(path.parent)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":  # where an open file cannot be renamed
                    file.close()
                part.replace(path)
                sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def target_of(path: str | os.PathLike[str]) -> Path:
    """Where a file goes that a user names by a path: a link stays, what it leads to is replaced."""
    # pathlib's question raises if the name is too long.
    return Path(os.path.realpath(path) if os.path.islink(path) else path)  # noqa: PTH114


@contextmanager
def write_errors(path: Path, what: str) -> Iterator[None]:
    """Raise an OSError of the block as a `WriteError`."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{what} must become a file, got {path}, which cannot be written: {reason(error)}"
        ) from error


def reason(error: OSError) -> str:
    """Why the system refuses to write, and what helps."""
    return f"{error.strerror or error}; {MENDS.get(error.errno or 0, OTHER)}"


def check_place(path: Path, what: str) -> None:
    """Raise ValueError unless a file, or a link, is at `path`, or nothing in a folder."""
    if not path.parent.is_dir():
        raise ValueError(
            f"{what} must go into a folder that exists, got {path}; make {path.parent} first"
        )
    kind = kind_of(path)
    if kind not in (None, "a file", "a link"):
        raise ValueError(f"{what} must become a file, got {path}, {kind}; name a file")


def kind_of(path: Path) -> str | None:
    """What lies at a path, such as "a file" or "a link"; None for nothing."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return KINDS.get(stat.S_IFMT(mode), "a file")


def open_part(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file of a random name in the folder, and its path; locked, where there are locks."""
    for _ in range(TRIES):
        path = folder / f".ngrammix-{secrets.token_hex(8)}.part"
        file = path.open("xb")
        with suppress(OSError):  # no locks here: then nobody removes what dead processes leave
            try_lock(file.fileno())
        try:
            if is_same(path, file.fileno()):
                return path, file
        except OSError:  # the disk fails: nothing stays
            path.unlink(missing_ok=True)
            file.close()
            raise
        file.close()  # before it was locked, it was taken for a dead process's, and removed
    raise OSError(errno.ESTALE, "new files vanish")


def remove_dead(folder: Path) -> None:
    """Remove what killed processes have left in the folder: files of `open_part` without a lock."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):  # another process was faster, or the file is another user's
                    remove_if_free(Path(entry.path))


def remove_if_free(path: Path) -> None:
    """Remove a file unless a process holds its lock; OSError if that cannot be told."""
    number = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if try_lock(number) and is_same(path, number):
            path.unlink()
    finally:
        os.close(number)


def is_same(path: Path, number: int) -> bool:
    """Whether the open file of this number is still the one at the path."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk, where the system can: a rename is safe only then."""
    if sys.platform == "win32":  # where a folder cannot be opened
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(number)


if sys.platform == "win32":
    import msvcrt

    def try_lock(number: int) -> bool:
        """Lock an open file until it is closed; False if another open file holds the lock."""
        os.lseek(number, RESERVED, os.SEEK_SET)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        finally:
            os.lseek(number, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def try_lock(number: int) -> bool:
        """Lock an open file until it is closed; False if another open file holds the lock."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
