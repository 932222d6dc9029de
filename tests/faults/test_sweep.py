"""Faults at every file operation and allocation, and power that fails at every moment."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.inject import Fault, Tap, tapped
from tests.faults.memory import allocations_fail
from tests.faults.run import ADDRESSES, FAULTS, MEMORY, POWER, fault_of, main
from tests.faults.scenes import SCENES, Scene
from tests.faults.sweep import files_fail, lose_power, sweep

QUICK = [name for name in SCENES if name.startswith(("save-", "load-", "read"))]


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != ADDRESSES])
@pytest.mark.parametrize("name", QUICK)
def test_files_are_saved_and_read_under_every_fault(name, kind, tmp_path):
    tries, wrong = fault_of(kind, tmp_path / "scene", 1)(name)
    assert tries > 0 or not SCENES[name].files  # what writes nothing needs no room
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", ["score", "score-again", "quantize"])
def test_runs_survive_faults(name, kind, tmp_path):
    step = 1 if kind in (ADDRESSES, POWER) else 29 if kind == MEMORY else 5
    tries, wrong = fault_of(kind, tmp_path / "scene", step)(name)
    assert tries > 0
    assert wrong == []


def test_the_file_that_cannot_be_read_is_named(tmp_path):
    from ngrammix import NgramCache, SnapshotError

    path = tmp_path / "a.txt"
    path.write_bytes(b"NGRAMMIX")

    def read(function, *arguments):
        with tapped(tmp_path, Fault(1, errno.EIO)), pytest.raises(ValueError) as error:
            function(*arguments)
        return error.value

    text = f"a file must be readable, got {path} (Input/output error); check its disk"
    assert str(read(NgramCache.load, path)) == text
    assert type(read(NgramCache.load, path)) is SnapshotError


class Log(Tap):
    def __init__(self):
        self.heard = []

    def before(self, operation, path, size=0):
        self.heard.append(f"{operation} {path.name}" + (f" {size}" if size else ""))
        return size


def test_a_tap_hears_of_every_operation(tmp_path):
    log = Log()
    with tapped(tmp_path, log):
        (tmp_path / "a").mkdir()
        with (tmp_path / "a/b").open("w", newline="") as file:
            file.write("one\n" * 3000)
        assert (tmp_path / "a/b").read_text() == "one\n" * 3000
        with open(tmp_path / "a/b", "r+b") as file:  # noqa: PTH123
            file.truncate(4)
            os.fsync(file.fileno())
        (tmp_path / "a/b").replace(tmp_path / "a/c")
        number = os.open(tmp_path / "a/c", os.O_RDONLY)
        os.close(number)
        (tmp_path / "a/c").unlink()
        Path(os.devnull).write_text("x")
    assert [one for one in log.heard if not one.startswith(("read", "stat"))] == [
        "mkdir a", "open to write b", "write b 12000", "open b", "open to write b",
        "truncate b", "fsync b", "replace b", "open c", "unlink c",
    ]  # fmt: skip


def test_a_fault_is_that_of_the_system(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with tapped(tmp_path, Fault(1, errno.EACCES)), pytest.raises(PermissionError) as error:
        (tmp_path / "a").open("rb")
    assert str(error.value) == f"[Errno 13] Permission denied: '{tmp_path / 'a'}'"
    short = Fault(1, "short")
    with tapped(tmp_path, short), (tmp_path / "a").open("wb", buffering=0) as file:
        assert file.write(b"12345") == 3
        assert file.write(b"45") == 2
    assert ((tmp_path / "a").read_bytes(), short.hit) == (b"12345", "write a")


def scene(play):
    """A scene in which `play` writes the file a, which holds old before."""
    return Scene(lambda folder: (folder / "a").write_bytes(b"old"), play, ("a",))


def in_place(folder):
    with (folder / "a").open("wb") as file:
        file.write(b"the new content")


def unsynced(folder):
    (folder / "b.part").write_bytes(b"the new content")
    (folder / "b.part").replace(folder / "a")


def silent(folder):
    with suppress(OSError):
        in_place(folder)


def test_the_sweep_finds_what_is_wrong(tmp_path, monkeypatch):
    folder = tmp_path / "scene"
    for play in (in_place, unsynced, silent):
        monkeypatch.setitem(SCENES, play.__name__, scene(play))
    tries, wrong = sweep("in_place", folder, files_fail(folder, "ENOSPC"))
    assert (tries, wrong) == (2, [
        "in_place, operation 2, write a: a is neither old nor new (0 bytes)",
        "in_place, operation 2, write a: raised OSError(28, 'No space left on device')",
    ])  # fmt: skip
    _, wrong = sweep("silent", folder, files_fail(folder, "full for ever"))
    assert "silent, operation 2, write a: no error, and other files" in wrong
    _, wrong = lose_power("in_place", folder)
    assert wrong == [
        "in_place, power lost after 1, create a: a is neither old nor new (0 bytes)",
        "in_place, power lost after 2, write a: a is neither old nor new (9 bytes)",
    ]
    _, wrong = lose_power("unsynced", folder)
    assert wrong == [
        "unsynced, power lost after 3, replace b.part: a is neither old nor new (0 bytes)",
        "unsynced, power lost after 3, replace b.part: a is neither old nor new (7 bytes)",
    ]


def test_an_allocation_that_fails(tmp_path):
    import numpy as np

    with allocations_fail(2) as shortage, pytest.raises(MemoryError):
        np.zeros(3), np.empty(3)
    assert shortage.hit == "empty"
    assert len(np.empty(3)) == 3


def test_the_table(capsys, tmp_path):
    out = tmp_path / "table.json"
    assert main(["save-quant", "--faults", "ENOSPC", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[2].split("|")[1:5] == [
        " save-quant   ", " ENOSPC         ", "      5 ", "      0 ",
    ]  # fmt: skip
    assert out.read_text().startswith('[["save-quant", "ENOSPC", 5, 0, ')
