"""RowFile: rows that grow in a file's part, and go on where an earlier run has left them."""

import hashlib
import os
import shutil
from io import FileIO
from pathlib import Path
from typing import Any

from eval.files.lock import make
from eval.files.results import part_of
from ngrammix.atomic import kind_of, replaced, sync_folder, write_errors
from ngrammix.reading import read_errors

BLOCK = 1 << 20  # bytes that are hashed at once
ROWS = "rows"  # in the errors


class RowFile:
    """Rows of a CSV file, appended to its part, with the length and hash of all of them.

    The part is not touched before the first rows come. It is written without a buffer, so a full
    disk shows with the rows that do not fit.

    Parameters
    ----------
    path : Path
        Where the file will be once it is whole.
    header : str
        Its first line, which comes with the first rows.
    written : dict, optional
        `state_dict` of an earlier run: the rows of that run, in the part or in the whole file, are
        continued. Without it, or without rows in it, the file is new.

    Raises
    ------
    ValueError
        If neither the part nor the whole file begins with what the earlier run wrote.
    """

    def __init__(self, path: Path, header: str, written: dict[str, Any] | None) -> None:
        self._part, self._header = part_of(path), header
        self._length: int = 0 if written is None else written["length"]
        self._source, self._hash = path, hashlib.sha256()
        if written is not None and self._length:
            self._source, self._hash = find_written(path, self._length, written["sha256"])
        self._file: FileIO | None = None

    def write(self, text: str) -> None:
        """Append rows; ValueError if they do not fit on the disk."""
        with write_errors(self._part, ROWS):
            self._append(self._opened(), text.encode("utf-8"))

    def state_dict(self) -> dict[str, Any]:
        """Length and hash of what is written, as JSON values; it is on disk."""
        if self._file is not None:
            with write_errors(self._part, ROWS):
                os.fsync(self._file.fileno())
        return {"length": self._length, "sha256": self._hash.hexdigest()}

    def finish(self) -> None:
        """Write all of it to disk and close it; without rows it has its first line alone."""
        with write_errors(self._part, ROWS):
            os.fsync(self._opened().fileno())
            self.close()

    def close(self) -> None:
        """Close the file, as it is."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> FileIO:
        """The part, open at its end; made, or cut to what is continued, when it is first needed."""
        if self._file is not None:
            return self._file
        if self._length:
            self._file = self._continued()
        else:
            make(self._part.parent)  # in case that it has gone meanwhile
            self._part.unlink(missing_ok=True)
            self._file = self._part.open("xb", buffering=0)
            self._append(self._file, self._header.encode("utf-8"))
        sync_folder(self._part.parent)
        return self._file

    def _continued(self) -> FileIO:
        """The part, open after the rows of the earlier run.

        Rows of a whole file are copied to the part, and so are those of a part with other names:
        what is under these does not change.
        """
        if self._source != self._part or self._part.lstat().st_nlink > 1:
            with self._source.open("rb") as source, replaced(self._part, ROWS) as copy:
                shutil.copyfileobj(source, copy)
        file = open(self._part, "r+b", buffering=0, opener=open_no_link)  # noqa: SIM115
        file.truncate(self._length)
        file.seek(self._length)
        return file

    def _append(self, file: FileIO, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]  # the system may write less
        self._hash.update(content)
        self._length += len(content)


def open_no_link(path: str, flags: int) -> int:
    """Open a file unless it is a link, for `open`."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def find_written(path: Path, length: int, sha256: str) -> tuple[Path, Any]:
    """The file that begins with the rows of an earlier run, and the hash of these rows.

    It is the part of `path`, or `path` itself if the run had ended. ValueError if neither begins
    with `length` bytes of that SHA-256. A link is not followed.
    """
    paths = [each for each in (part_of(path), path) if kind_of(each) == "a file"]
    for each in paths:
        digest = hash_start(each, length)
        if digest.hexdigest() == sha256:
            return each, digest
    size = paths[0].stat().st_size if paths else 0
    if size < length:
        raise ValueError(
            f"CSV files must have the {length} bytes of the checkpoint, got {size} in "
            f"{paths[0] if paths else path}; put the file back, or start again without the "
            "checkpoint"
        )
    raise ValueError(
        f"--out must hold the files of the checkpoint, got others' in {paths[0]}; pass the --out "
        "that the run began with, or start again without the checkpoint"
    )


def hash_start(path: Path, n_left: int) -> Any:
    """SHA-256 of the first bytes of a file."""
    digest = hashlib.sha256()
    with read_errors(path), path.open("rb") as file:
        while n_left and (block := file.read(min(n_left, BLOCK))):
            digest.update(block)
            n_left -= len(block)
    return digest
