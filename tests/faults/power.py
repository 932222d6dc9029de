"""Power loss: what a disk may hold after the power has failed at any moment of a run.

A system keeps writes in memory until a file is synced, and names until their folder is. So after a
loss of power each file holds all that was written since, none of it, or a part, and each folder its
new names or the old ones. Files and folders are independent of each other.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from tests.faults.inject import Tap

ROOT = Path()  # of the folder whose power fails; paths below are relative to it
CHANGES = ("create", "write", "truncate", "fsync", "unlink", "mkdir", "rmdir", "replace")
PARTS = ("nothing", "half", "all")  # of the unsynced writes to a file


@dataclass
class Recorder(Tap):
    """The operations that change something below a folder, in order: (operation, path, details)."""

    root: Path
    events: list[tuple[Any, ...]] = field(default_factory=list)

    def after(self, operation: str, path: Path, *details: Any) -> None:
        """Keep an operation; what the second path of a rename is, relative to the root too."""
        if operation in CHANGES:
            here = path.relative_to(self.root)
            if operation == "replace":
                details = (Path(details[0]).relative_to(self.root),)
            self.events.append((operation, here, *details))


@dataclass
class File:
    """What is in a file, and what of it is on the disk for certain."""

    content: bytes = b""
    synced: bytes = b""

    def after_loss(self, part: str) -> bytes:
        """The content if this part of the unsynced writes has reached the disk."""
        if part == "all" or self.content == self.synced:
            return self.content
        if part == "nothing":
            return self.synced
        if len(self.content) > len(self.synced):
            return self.content[: (len(self.content) + len(self.synced)) // 2]
        return self.content[: len(self.content) // 2] + self.synced[len(self.content) // 2 :]


class Disk:
    """The files and folders below the root, as the system shows them and as the disk has them.

    Parameters
    ----------
    root : Path
        A folder whose content is on the disk for certain.
    """

    def __init__(self, root: Path) -> None:
        self.files: dict[Path, File] = {}
        self.folders = {ROOT}
        for path in root.rglob("*"):
            here = path.relative_to(root)
            if path.is_dir():
                self.folders.add(here)
            else:
                self.files[here] = File(path.read_bytes(), path.read_bytes())
        self.synced_files, self.synced_folders = dict(self.files), set(self.folders)

    def apply(self, operation: str, path: Path, *details: Any) -> None:
        """Do what the run did."""
        match operation:
            case "create" if path not in self.files:
                self.files[path] = File()
            case "create" if "w" in details[0]:
                self.files[path].content = b""
            case "write" if path in self.files:
                at, data = details
                old = self.files[path].content.ljust(at, b"\0")
                self.files[path].content = old[:at] + data + old[at + len(data) :]
            case "truncate":
                size = details[0]
                self.files[path].content = self.files[path].content[:size].ljust(size, b"\0")
            case "fsync" if path in self.files:
                self.files[path].synced = self.files[path].content
            case "fsync":
                self.sync_folder(path)
            case "replace":
                self.files[details[0]] = self.files.pop(path)
            case "unlink":
                self.files.pop(path, None)
            case "mkdir":
                self.folders.add(path)
            case "rmdir":
                self.folders.discard(path)

    def sync_folder(self, folder: Path) -> None:
        """The names in a folder reach the disk."""
        others = {path: f for path, f in self.synced_files.items() if path.parent != folder}
        self.synced_files = others | self.names(folder, is_new=True)
        self.synced_folders |= {path for path in self.folders if path.parent == folder}

    def after_loss(self) -> Iterator[dict[Path, bytes]]:
        """Every state that is told apart here: the content of each file by its path."""
        changed = sorted(
            folder
            for folder in self.folders
            if self.names(folder, is_new=True) != self.names(folder, is_new=False)
        )
        for part in PARTS:
            for choice in product((False, True), repeat=len(changed)):
                has_new = dict(zip(changed, choice, strict=True))
                yield {
                    path: file.after_loss(part)
                    for folder in self.folders
                    if self.is_there(folder, has_new)
                    for path, file in self.names(folder, is_new=has_new.get(folder, True)).items()
                }

    def names(self, folder: Path, *, is_new: bool) -> dict[Path, File]:
        """The files by name in a folder, as the system shows them or as the disk has them."""
        files = self.files if is_new else self.synced_files
        return {path: file for path, file in files.items() if path.parent == folder}

    def is_there(self, folder: Path, has_new: dict[Path, bool]) -> bool:
        """Whether a folder is on the disk: its name is synced, or that of a file in it."""
        return folder in self.synced_folders or has_new.get(folder, True)


def losses(disk: Disk, events: list[tuple[Any, ...]]) -> Iterator[tuple[int, dict[Path, bytes]]]:
    """(operations before the loss, files by path) of every different state of the disk."""
    disk, seen = deepcopy(disk), set()
    for n in range(len(events) + 1):
        for state in disk.after_loss():
            key = hash(tuple(sorted(state.items())))
            if key not in seen:
                seen.add(key)
                yield n, state
        if n < len(events):
            disk.apply(*events[n])


def restore(folder: Path, state: dict[Path, bytes]) -> None:
    """Write the files of a state into an empty folder."""
    for path, content in state.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
