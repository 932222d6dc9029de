"""One run at a time in a folder: every other one is refused, and told who is there."""

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest

from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.files import lock
from eval.files.lock import hold
from eval.scoring.score import score
from tests.toy import ToyModel

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds, after which a run hangs
TEXT = "the cat sat on the mat, and the dog lay on the log. " * 40
DATA = Documents([Document("a", TEXT.encode()[:300])])
END = "; wait for it, stop it, or choose another folder"


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text(TEXT, encoding="utf-8")
    return tmp_path


def start(*words):
    """A run whose text comes from a pipe, so that it is there until the pipe ends; it has begun."""
    run = subprocess.Popen(
        [sys.executable, "-m", "eval", "score", "--model", "none", "--data", "-", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    folders = [Path(word) for flag, word in pairwise(words) if flag in FLAGS]
    while not all((folder / lock.NAME).exists() for folder in folders):
        assert run.poll() is None, run.stderr.read()
    return run


FLAGS = ("--out", "--checkpoint")


def other(*words):
    return main(["score", "--model", "none", "--data", "text", *words])


def contents(folder):
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files.pop("result.json", None)  # times
    files.pop("checkpoint.ngrammix", None)
    return files


@contextmanager
def held(**folders):
    """The folders, held by another thread."""
    is_held, is_done = Event(), Event()

    def run():
        with hold(**folders):
            is_held.set()
            is_done.wait(LIMIT)

    thread = Thread(target=run)
    thread.start()
    assert is_held.wait(LIMIT)
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def test_two_processes_on_one_folder(inside, capsys):
    assert other("--out", "alone", "--tokens", "--checkpoint", "saved alone") == 0
    words = ("--out", "out", "--tokens", "--checkpoint", "saved")
    first = start(*words)
    capsys.readouterr()
    Path("link").symlink_to("out")
    taken_by_name = (str(inside / "out"), "link", "out/../out")
    for taken in (words[:2], words[3:], ("--out", "saved"), ("--checkpoint", "out"),
                  *(("--out", name) for name in taken_by_name)):  # fmt: skip
        assert other(*taken, *(["--overwrite"] if taken[0] == "--out" else [])) == 2
        error = capsys.readouterr().err
        begin, _, rest = error.partition(" since ")
        assert begin == (
            f"ngrammix: error: {taken[0]} must be a folder that no other run uses, got {taken[1]}, "
            f"which is used by process {first.pid} on {socket.gethostname()}"
        )
        assert rest[23:] == (
            " (ngrammix score --model none --data - --out out --tokens --checkpoint saved)" + END
            + "\n"
        )  # fmt: skip
    out, errors = first.communicate(TEXT, timeout=LIMIT)
    assert (first.returncode, errors) == (0, "")
    assert out
    whole = contents("out")
    assert whole.keys() == {"documents.csv", "tokens.csv"}  # no lock, no part
    assert whole["tokens.csv"] == contents("alone")["tokens.csv"]


def test_the_lock_of_a_killed_process_is_nobodys(inside, capsys):
    run = start("--out", "out", "--checkpoint", "out")
    left = Path("out/.ngrammix-0123456789abcdef.part")
    left.touch()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert Path("out", lock.NAME).exists()
    assert other("--out", "out", "--checkpoint", "out") == 0
    assert sorted(os.listdir("out")) == ["checkpoint.ngrammix", "documents.csv", "result.json"]  # noqa: PTH208


def test_two_threads_of_one_process(inside):
    class Slow(ToyModel):
        def logits(self, tokens):
            begun.set()
            go_on.wait(LIMIT)
            return super().logits(tokens)

    def run():
        results.append(score(Slow(), DATA, out=inside / "out", checkpoint=inside / "saved"))

    begun, go_on, results = Event(), Event(), []
    thread = Thread(target=run)
    thread.start()
    assert begun.wait(LIMIT)
    for folders in ({"out": inside / "out"}, {"checkpoint": inside / "saved"}):
        [(option, folder)] = folders.items()
        with pytest.raises(ValueError) as error:
            score(ToyModel(), DATA, **folders)
        begin, _, rest = str(error.value).partition(" since ")
        assert begin == (
            f"--{option} must be a folder that no other run uses, got {folder}, which is used by "
            f"process {os.getpid()} on {socket.gethostname()}"
        )
        assert rest.endswith(END)
    go_on.set()
    thread.join()
    alone = score(ToyModel(), DATA, out=inside / "alone")
    assert [result.bits for result in results] == [alone.bits]
    assert contents("out") == contents("alone")


def test_one_run_may_use_a_folder_twice(inside):
    both = inside / "both"
    with hold(out=both, checkpoint=both), hold(out=both):
        score(ToyModel(), DATA, ScoreConfig(limit=100), out=both, checkpoint=both)
        assert (both / lock.NAME).exists()
    assert sorted(path.name for path in both.iterdir()) == ["checkpoint.ngrammix", "documents.csv"]
    score(ToyModel(), DATA, out=both, overwrite=True)


@pytest.mark.parametrize(
    "words",
    [
        "score --data text --model missing:make",
        "demo",
        "compare --data text --model missing:make",
        "quantize --recipe int8 --model missing:make",
        "pipeline --data text --recipe int8 --model missing:make",
        "bench observe",
    ],
)
def test_every_command_asks_before_it_loads_a_model(inside, capsys, words):
    folder = inside / "out"
    with held(out=folder):
        assert main([*words.split(), "--out", "out"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("ngrammix: error: --out must be a folder that no other run uses")
        assert [path.name for path in folder.iterdir()] == [lock.NAME]
    assert not folder.exists()  # made for the lock alone
    with pytest.MonkeyPatch.context() as patch:  # nor does it wait with a disk that is full
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=9, free=8))
        assert main([*words.split(), "--out", "out"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: --out must have 1,048,576 bytes of room, got 8 in out; make room on its "
        "disk, or choose another folder\n"
    )
    assert not folder.exists()


def refusal(**folders):
    def begin():
        with hold(**folders):
            pass

    with pytest.raises(ValueError) as error:
        begin()
    return str(error.value)


def test_a_folder_that_cannot_be_written_to_shows_at_once(inside, monkeypatch):
    begin = "--checkpoint must be a folder that can be written to, got "
    assert refusal(checkpoint=Path("text/a")) == f"{begin}text/a: Not a directory; name another"
    if Path("/proc/self").exists():
        assert refusal(checkpoint=Path("/proc/a")).startswith(f"{begin}/proc/a: ")
    assert refusal(out=Path("text")) == (
        "--out must be a folder, got the file text; choose another name"
    )
    Path("nowhere").symlink_to("missing")
    assert refusal(out=Path("nowhere")) == (
        "--out must be a folder, got the link nowhere; choose another name"
    )
    Path("full").mkdir()
    for call, number, mend in (
        ("open", errno.EROFS, "get the right to write there"),
        ("open", errno.EACCES, "get the right to write there"),
        ("fsync", errno.ENOSPC, "make room on its disk"),
        ("fsync", errno.EDQUOT, "make room on its disk"),
        ("write", errno.EIO, "check its disk"),
    ):

        def fail(*arguments, number=number, **options):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            text = refusal(checkpoint=Path("full"))
        assert text == f"{begin}full: {os.strerror(number)}; {mend}"
        assert os.listdir("full") == []  # noqa: PTH208
    with hold(out=Path("full")):  # nothing is left held
        pass


def test_a_lock_is_a_file(inside):
    path = Path("out", lock.NAME)
    path.parent.mkdir()
    Path("precious").write_text("precious", encoding="utf-8")
    for make, kind in (
        (lambda: path.symlink_to("../precious"), "a link"),
        (lambda: os.mkfifo(path), "a pipe"),
        (path.mkdir, "a folder"),
    ):
        make()
        assert refusal(out=Path("out")) == (
            f"the lock of a folder must be a file, got {path}, {kind}; remove it"
        )
        path.rmdir() if kind == "a folder" else path.unlink()
    assert Path("precious").read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b"{}", b"[" * 4096, b'{"pid": ' + b"9" * 4000, b"\0" * 99]
)
def test_a_lock_that_does_not_say_who_holds_it(inside, content):
    with held(out=Path("out")):
        Path("out", lock.NAME).write_bytes(content)
        assert refusal(out=Path("out")) == (
            "--out must be a folder that no other run uses, got out, which is used by another "
            "process" + END
        )
    with hold(out=Path("out")):
        holder = json.loads(Path("out", lock.NAME).read_text(encoding="utf-8"))
    assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())


def test_a_process_that_goes_elsewhere_takes_its_lock_away(inside, monkeypatch):
    with hold(out=Path("out")):
        monkeypatch.chdir("/")
    assert list(inside.iterdir()) == [inside / "text"]


def test_a_file_system_without_locks_gets_a_warning(inside, capsys, monkeypatch):
    def refuse(number):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "try_lock", refuse)
    with hold(out=Path("out")):
        pass
    assert capsys.readouterr().err == (
        "ngrammix: warning: out has no locks; see to it that no other run uses it\n"
    )


def test_a_folder_that_is_removed_meanwhile_is_anothers_to_hold(inside):
    with hold(out=Path("out")):
        shutil.rmtree("out")
        with held(out=Path("out")):
            theirs = Path("out", lock.NAME).read_bytes()
            with pytest.raises(ValueError, match="no other run uses"), hold(out=Path("out")):
                pass
    assert theirs
    assert lock._held == {}


FORK = """
import os, sys, time
from pathlib import Path
from eval.files.lock import hold
with hold(out=Path("out")):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
    time.sleep(60)
"""


def test_a_child_that_outlives_the_run_does_not_hold_its_folder(inside):
    run = subprocess.Popen(
        [sys.executable, "-c", FORK], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    child = int(run.stdout.readline())
    try:
        assert "no other run uses" in refusal(out=Path("out"))
        run.kill()
        run.wait()
        with hold(out=Path("out")):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        run.communicate()
