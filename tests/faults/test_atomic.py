"""Files that are written whole or not at all: whoever dies, whatever lies in their place."""

import errno
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ngrammix.atomic
from ngrammix import NgramCache
from ngrammix.atomic import open_part, remove_dead, replaced
from quant import load, save

ROOT = Path(__file__).resolve().parents[2]
NAME = ".ngrammix-0123456789abcdef.part"


def start(code, *arguments):
    """A Python process that runs the code; it has said a line."""
    run = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
    )  # fmt: skip
    run.stdout.readline()
    return run


def kill(run):
    run.send_signal(signal.SIGKILL)
    run.communicate()


def write(path, content=b"new", what="figures"):
    with replaced(path, what) as file:
        file.write(content)


def refusal(path):
    with pytest.raises(ValueError) as error:
        write(path)
    return str(error.value)


def test_a_file_is_new_or_old_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "a"
    write(path, b"old")

    def fail():
        with replaced(path, "figures") as file:
            file.write(b"half")
            assert len(list(tmp_path.iterdir())) == 2
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])
    write(path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"new", [path])
    write(tmp_path / ("n" * 255))  # the name beside it is no longer than that


HOLD = """
import sys
from pathlib import Path
from ngrammix.atomic import open_part
path, file = open_part(Path(sys.argv[1]))
print(path.name, flush=True)
sys.stdin.read()
"""


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    living, dead = start(HOLD, tmp_path), start(HOLD, tmp_path)
    theirs, mine = set(tmp_path.iterdir()), open_part(tmp_path)
    kill(dead)
    (tmp_path / f"{NAME}x").touch()  # not a name of ours
    (tmp_path / NAME).symlink_to("elsewhere")
    write(tmp_path / "a")
    left = set(tmp_path.iterdir())
    assert len(theirs & left) == 1
    assert left - theirs == {mine[0], *(tmp_path / name for name in ("a", f"{NAME}x", NAME))}
    mine[1].close()
    kill(living)
    save(tmp_path / "b", {})  # either package removes what the other left
    assert not (theirs | {mine[0]}) & set(tmp_path.iterdir())


def test_equal_process_ids_on_one_disk_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    parts = [open_part(tmp_path) for _ in range(9)]
    assert len({path for path, _ in parts}) == 9
    monkeypatch.setattr(secrets, "token_hex", lambda n: "0" * 16)
    parts.append(open_part(tmp_path))
    with pytest.raises(FileExistsError):  # never somebody else's file, even then
        open_part(tmp_path)
    for _, file in parts:
        file.close()


def test_links_are_replaced_and_other_names_keep_their_content(tmp_path):
    precious, path = tmp_path / "precious", tmp_path / "a"
    precious.write_bytes(b"precious")
    for link in (path.symlink_to, path.hardlink_to):
        link(precious)
        write(path)
        assert (path.is_symlink(), path.read_bytes()) == (False, b"new")
        path.unlink()
    path.symlink_to("nowhere")
    write(path)
    assert path.read_bytes() == b"new"
    assert precious.read_bytes() == b"precious"


def test_what_no_file_can_take_the_place_of(tmp_path):
    folder, pipe, plug = (tmp_path / name for name in ("folder", "pipe", "plug"))
    folder.mkdir()
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug))
    kinds = {folder: "a folder", pipe: "a pipe", plug: "a socket", Path("/dev/null"): "a device"}
    for path, kind in kinds.items():
        assert refusal(path) == f"figures must become a file, got {path}, {kind}; name a file"
    assert refusal(tmp_path / "no" / "a") == (
        f"figures must go into a folder that exists, got {tmp_path / 'no' / 'a'}; make "
        f"{tmp_path / 'no'} first"
    )
    assert sorted(tmp_path.iterdir()) == sorted([folder, pipe, plug])


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "No space left on device; make room on its disk"),
        (errno.EDQUOT, "Disk quota exceeded; make room on its disk"),
        (errno.EFBIG, "File too large; raise the limit on the size of a file"),
        (errno.EROFS, "Read-only file system; get the right to write there"),
        (errno.EACCES, "Permission denied; get the right to write there"),
        (errno.EIO, "Input/output error; check its disk"),
        (errno.ENOENT, "No such file or directory; put its folder back"),
        (errno.ENAMETOOLONG, "File name too long; name another"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_every_refusal_of_the_system_names_the_file_and_a_mend(
    tmp_path, monkeypatch, number, mend, call
):
    path = tmp_path / "a"
    write(path, b"old")

    def fail(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    assert (
        refusal(path) == f"figures must become a file, got {path}, which cannot be written: {mend}"
    )
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"old", [path])


def test_a_folder_that_cannot_be_listed_is_no_error(tmp_path):
    remove_dead(tmp_path / "missing")


def test_locks_that_do_not_exist_keep_nobody_from_writing(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    left, file = open_part(tmp_path)
    file.close()
    monkeypatch.setattr(ngrammix.atomic.fcntl, "flock", refuse)
    write(tmp_path / "a")
    assert set(tmp_path.iterdir()) == {left, tmp_path / "a"}  # nobody can tell who left it


SAVE = """
import sys
import numpy as np
from ngrammix import NgramCache
cache = NgramCache(vocab_size=9, order=4)
cache.learn(np.arange(2000) % 9)
print(flush=True)
for _ in range(30):
    cache.save(sys.argv[1])
"""


def test_of_two_processes_that_save_to_one_path_the_last_wins_whole(tmp_path):
    path = tmp_path / "a"
    runs = [start(SAVE, path) for _ in range(2)]
    cache = NgramCache(vocab_size=9, order=4)
    cache.learn(np.zeros(500, np.int64))
    for _ in range(10):
        cache.save(path)
        NgramCache.load(path).check()
    assert [run.wait(60) for run in runs] == [0, 0]
    NgramCache.load(path).check()
    assert list(tmp_path.iterdir()) == [path]
    for run in runs:
        run.communicate()
    save(path, {"a": np.zeros(3)})
    assert load(path).keys() == {"a"}
