"""Folders that one run at a time may use: a lock that ends with its process, however that ends."""

import errno
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import get_ident

from eval.notes import note
from ngrammix.atomic import is_same, kind_of, open_part, reason, remove_dead, sync_folder, try_lock

NAME = ".ngrammix.lock"
LEAST_FREE = 1 << 20  # bytes of the disk, without which no run begins
PROBE = bytes(1 << 16)
MAX_HOLDER = 1 << 12  # bytes of JSON in a lock
MAX_COMMAND = 300  # characters of a command in an error
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EBADF)

# By the open file of each lock that this process holds: its folder, as device and inode, and the
# thread that holds it.
_held: dict[int, tuple[int, int, int]] = {}


@contextmanager
def hold(**folders: Path | None) -> Iterator[None]:
    """Keep other runs, of this process or another, out of the folders until the block ends.

    The folders are created if they are missing, and written to, so that one without room or rights
    shows before the run has begun. What dead processes left in them is removed. The same folder
    twice, or again within the block, is held once. A folder that is made here and stays empty is
    removed at the end.

    Parameters
    ----------
    **folders : Path or None
        By the option that names each; None: there is none.

    Raises
    ------
    ValueError
        If another run uses a folder, or it cannot be written to.
    """
    with ExitStack() as stack:
        for option, folder in folders.items():
            if folder is not None:
                stack.enter_context(_hold(folder, f"--{option}"))
        yield


@contextmanager
def _hold(folder: Path, option: str) -> Iterator[None]:
    """Hold one folder, unless this thread does already."""
    with _folder_errors(folder, option):
        is_new = not folder.is_dir()
        if is_new:
            refuse_other(folder, option)
            make(folder)
        status = folder.stat()
    mine = status.st_dev, status.st_ino, get_ident()
    if mine in tuple(_held.values()):
        yield
        return
    path = folder.absolute() / NAME  # also where the process goes to another folder meanwhile
    with _folder_errors(folder, option):
        number = acquire(path, folder, option)
    _held[number] = mine
    try:
        with _folder_errors(folder, option):
            write_holder(number)
            probe(folder, option)
        remove_dead(folder)
        yield
    finally:
        if _held.pop(number, None) is not None:  # None: in a child that was forked meanwhile
            release(path, number)
            if is_new:
                with suppress(OSError):  # it holds files
                    path.parent.rmdir()


@contextmanager
def _folder_errors(folder: Path, option: str) -> Iterator[None]:
    """Raise an OSError of the block as a ValueError that names the folder and what helps."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"{option} must be a folder that can be written to, got {folder}: {reason(error)}"
        ) from error


def refuse_other(folder: Path, option: str) -> None:
    """Raise ValueError if a folder cannot be made because something else has its name."""
    if (kind := kind_of(folder)) is not None:
        what = "the" + kind.removeprefix("a")
        raise ValueError(f"{option} must be a folder, got {what} {folder}; choose another name")


def make(folder: Path) -> None:
    """Create a folder, and those that it lies in, on disk."""
    for each in reversed([folder, *folder.parents]):
        if not each.is_dir():
            each.mkdir(exist_ok=True)
            sync_folder(each.parent)


def acquire(path: Path, folder: Path, option: str) -> int:
    """The open file of the lock, which is held now; ValueError if another run holds it."""
    if (kind := kind_of(path)) not in (None, "a file"):
        raise ValueError(
            f"the lock of a folder must be a file, got {folder / NAME}, {kind}; remove it"
        )
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        number = os.open(path, flags, 0o666)
        try:
            if not is_free(number, folder):
                raise ValueError(describe(read_holder(number), folder, option))
            if is_same(path, number):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # of a run that ended meanwhile, and removed it


def is_free(number: int, folder: Path) -> bool:
    """Lock the open file, unless another has; a note says so where there are no locks at all."""
    try:
        return try_lock(number)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        note(f"warning: {folder} has no locks; see to it that no other run uses it")
        return True


def release(path: Path, number: int) -> None:
    """Remove the lock and let it go."""
    with suppress(OSError):  # the folder is gone, or read-only by now; Windows keeps open files
        if is_same(path, number):
            path.unlink()
    os.close(number)


def probe(folder: Path, option: str) -> None:
    """Write a file and remove it; OSError if that fails, ValueError if there is hardly any room."""
    disk = shutil.disk_usage(folder)
    if disk.total and disk.free < LEAST_FREE:  # total 0: the file system does not tell
        raise ValueError(
            f"{option} must have {LEAST_FREE:,} bytes of room, got {disk.free:,} in {folder}; make "
            "room on its disk, or choose another folder"
        )
    path, file = open_part(folder)
    try:
        with file:
            file.write(PROBE)
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def write_holder(number: int) -> None:
    """Write who holds a lock into it, for the error of those who do not."""
    words = ["ngrammix" if sys.argv[0].endswith("__main__.py") else sys.argv[0], *sys.argv[1:]]
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "command": shlex.join(words)[:MAX_COMMAND],
    }
    os.ftruncate(number, 0)
    os.write(number, json.dumps(holder).encode())


def read_holder(number: int) -> dict[str, str]:
    """Who holds a lock; empty if it does not say so, or not yet."""
    try:
        values = json.loads(os.read(number, MAX_HOLDER))
        return {name: str(values[name]) for name in ("pid", "host", "since", "command")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def describe(holder: dict[str, str], folder: Path, option: str) -> str:
    """The error for a folder that another run holds."""
    who = "another process"
    if holder:
        who = "process {pid} on {host} since {since} ({command})".format_map(holder)
    return (
        f"{option} must be a folder that no other run uses, got {folder}, which is used by {who}; "
        "wait for it, stop it, or choose another folder"
    )


def forget() -> None:
    """Let the locks go in a forked child, which may outlive the run: they are its parent's."""
    for number in _held:
        os.close(number)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)
