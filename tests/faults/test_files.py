"""Results: told whatever becomes of their files, and old ones kept until new ones are whole."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.scoring.score import score
from tests.toy import ToyModel

ROOT = Path(__file__).resolve().parents[2]
TEXT = "the cat sat on the mat, and the dog lay on the log. " * 40
DATA = Documents([Document("a", TEXT.encode()[:300]), Document("b", b"a dog")])
FULL = "No space left on device; make room on its disk"
SCORE = ["score", "--model", "none", "--data", "text", "--out", "out"]
COMMANDS = {  # words, and the names of the results: the report first
    "score --data text --model none --tokens": ("result.json", "documents.csv", "tokens.csv"),
    "demo --limit 9": ("result.json", "documents.csv"),
    "compare --data text --limit 9 --mixers gate": ("compare.json",),
    "quantize --recipe int8 --codec none": ("quantize.json", "model.ngq"),
    "pipeline --data text --recipe int8 --codec none --limit 9": ("pipeline.json", "int8.ngq"),
    "bench scalar --rows 4 --columns 128 --runs 1": ("scalar.json",),
}
SIGNED = {"quantize": "bits", "bench": "bench scalar|"}  # what is printed; the others: "BPB|"


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text(TEXT, encoding="utf-8")
    return tmp_path


def contents(folder):
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {name: content for name, content in files.items() if not name.endswith(".json")}


def fail_at(monkeypatch, name, number, *, after=0):
    """Let renames to the name fail, once `after` of them have not."""
    real, count = os.replace, iter(range(after))

    def replace(source, target):
        if Path(target).name == name and next(count, None) is None:
            raise OSError(number, os.strerror(number))
        return real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_result_is_told_though_its_file_cannot_be_written(inside, capsys, monkeypatch, command):
    words, names = [*command.split(), "--out", "out"], COMMANDS[command]
    for name in names:
        with monkeypatch.context() as patch:
            fail_at(patch, name, errno.ENOSPC)
            assert main(words) == 2
        said = capsys.readouterr()
        assert SIGNED.get(words[0], "BPB|") in said.out, name
        assert said.err.splitlines()[-1] == (
            f"ngrammix: error: results must become a file, got out/{name}, which cannot be "
            f"written: {FULL}"
        )
        assert not Path("out", name).exists()
        assert not list(Path("out").glob(".ngrammix*"))
        shutil.rmtree("out", ignore_errors=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_old_results_stay_until_new_ones_are_whole(inside, capsys, command):
    words, names = [*command.split(), "--out", "out"], COMMANDS[command]
    Path("out").mkdir()
    precious = inside / "precious"
    precious.write_bytes(b"precious")
    for n, name in enumerate(names):  # a link, and other names of the file
        path = Path("out", name)
        (path.symlink_to if n == 0 else path.hardlink_to)(precious)
    if words[0] != "bench":  # it has no --overwrite that it would ask for
        words.append("--overwrite")
    if words[0] not in ("bench", "demo"):
        assert main([*words, "--model", "missing:make"]) == 2
        assert [Path("out", name).read_bytes() for name in names] == [b"precious"] * len(names)
    assert main(words) == 0
    assert sorted(os.listdir("out")) == sorted(names)  # noqa: PTH208
    assert not any(Path("out", name).is_symlink() for name in names)
    assert precious.read_bytes() == b"precious"
    json.loads(Path("out", names[0]).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["result.json", "documents.csv", "tokens.csv", "tokens.csv.part"])
@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_file_is_not_replaced(inside, capsys, name, kind):
    path = Path("out", name)
    path.parent.mkdir()
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    assert main([*SCORE, "--overwrite"]) == 2
    assert capsys.readouterr().err == (
        f"ngrammix: error: results must become files, got {path}, {kind}; remove it\n"
    )


def test_a_part_that_is_a_link_is_refused(inside, capsys):
    Path("out").mkdir()
    Path("out/tokens.csv.part").symlink_to("../text")
    assert main([*SCORE, "--overwrite"]) == 2
    assert "results must become files, got out/tokens.csv.part, a link" in capsys.readouterr().err
    assert Path("text").read_text(encoding="utf-8") == TEXT


class Half(io.FileIO):
    """A file that takes half of what would be its n-th kilobyte, and then no more."""

    left = 0

    def write(self, content):
        if len(content) > Half.left:
            n = super().write(content[: Half.left // 2])
            Half.left = 0
            if n:
                return n
            raise OSError(errno.ENOSPC, "No space left on device")
        Half.left -= len(content)
        return super().write(content)


@pytest.fixture
def small_disk(monkeypatch):
    """What makes the disk full once this many bytes of rows are on it."""
    real = Path.open

    def full(path, mode="r", buffering=-1, *arguments, **more):
        if path.name.endswith("csv.part") and buffering == 0:
            return Half(path, mode.replace("b", ""))
        return real(path, mode, buffering, *arguments, **more)

    def fill(room):
        Half.left = room
        monkeypatch.setattr(Path, "open", full)
        return monkeypatch.undo

    return fill


def run_rows(out, **options):
    config = ScoreConfig(batch=1, stride=8)
    return score(ToyModel(), DATA, config, out=Path(out).absolute(), write_tokens=True, **options)


def is_full(error, folder):
    names = [folder / "tokens.csv.part", folder / "documents.csv.part"]
    return str(error) in [
        f"rows must become a file, got {name}, which cannot be written: {FULL}" for name in names
    ]


@pytest.mark.parametrize("room", [0, 1000, 5000, 11000])
def test_after_a_full_disk_the_same_call_goes_on(tmp_path, small_disk, room):
    whole = run_rows(tmp_path / "whole")
    options = {"checkpoint": tmp_path / "saved", "checkpoint_every": 50}
    make_room = small_disk(room)
    with pytest.raises(ValueError) as error:
        run_rows(tmp_path / "out", **options)
    assert is_full(error.value, tmp_path / "out")
    make_room()
    result = run_rows(tmp_path / "out", **options)
    assert (result.bits, result.words) == (whole.bits, whole.words)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("room", [0, 1000, 11000])
def test_without_a_checkpoint_a_run_goes_on_for_its_figures(tmp_path, small_disk, room):
    whole, told = run_rows(tmp_path / "whole"), []
    small_disk(room)
    with (
        pytest.raises(ValueError) as error,
        pytest.warns(UserWarning, match="; the run goes on without its rows$"),
    ):
        run_rows(tmp_path / "out", on_result=told.append)
    assert is_full(error.value, tmp_path / "out")
    assert [result.bits for result in told] == [whole.bits]
    assert error.value.__notes__ == [f"every token is scored: {told[0].last_line()}"]
    assert not (tmp_path / "out" / "tokens.csv").exists()


def test_a_limit_on_the_size_of_files_names_the_file(inside):
    words = [*SCORE, "--tokens", "--checkpoint", "saved", "--checkpoint-every", "500"]
    words = [sys.executable, "-m", "eval", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # The probe of the folder fits, the 2,080 rows of about 45 bytes do not.
    run = subprocess.run(
        ["bash", "-c", 'ulimit -f 70; exec "$@"', "bash", *words],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1] == (
        "ngrammix: error: rows must become a file, got out/tokens.csv.part, which cannot be "
        "written: File too large; raise the limit on the size of a file"
    )
    assert run.stdout == ""  # it goes on later
    assert main(words[3:]) == 0
    assert main([*SCORE[:-1], "straight", "--tokens"]) == 0
    assert contents("out") == contents("straight")
    run = subprocess.run(  # without a checkpoint, it goes on at once
        ["bash", "-c", 'ulimit -f 70; exec "$@"', "bash", *words[:-4], "--overwrite"],
        capture_output=True, text=True, env=environment, timeout=120,
    )  # fmt: skip
    assert run.returncode == 2
    assert "BPB|" in run.stdout
    reason = (
        "rows must become a file, got out/tokens.csv.part, which cannot be written: File too large;"
        " raise the limit on the size of a file"
    )
    assert run.stderr.splitlines()[-2:] == [
        f"ngrammix: warning: {reason}; the run goes on without its rows",
        f"ngrammix: error: {reason}",
    ]
    Path("out/tokens.csv.part").unlink()
    assert contents("out") == contents("straight")  # the old results


@pytest.mark.parametrize("at", [0, 4, "end"])
def test_a_folder_that_vanishes_does_not_take_the_result_with_it(inside, at):
    """Before the first rows it is made again; later they are gone, but not the result."""

    class Vanishing(ToyModel):
        def logits(self, tokens):
            if self.calls == at:
                shutil.rmtree("out")
            return super().logits(tokens)

    def tell(result):
        told.append(result)
        if at == "end":
            shutil.rmtree("out")

    told, config = [], ScoreConfig(batch=1, stride=8, causality_check=False)
    options = {"out": Path("out"), "write_tokens": True, "on_result": tell}
    whole = score(ToyModel(), DATA, config, out=Path("whole"), write_tokens=True)
    if at == 0:
        score(Vanishing(), DATA, config, **options)
        assert contents("out") == contents("whole")
    else:
        with pytest.raises(ValueError) as error:
            score(Vanishing(), DATA, config, **options)
        assert str(error.value) == (
            "results must become a file, got out/tokens.csv, which cannot be written: No such file "
            "or directory; put its folder back"
            if at == 4
            else "results must become a file, got out/documents.csv, which cannot be written: No "
            "such file or directory; put its folder back"
        )
        assert error.value.__notes__ == [f"every token is scored: {told[0].last_line()}"]
    assert [result.bits for result in told] == [whole.bits]


@pytest.mark.parametrize("close", ["| true", ">&-", "> /dev/full"])
@pytest.mark.parametrize("command", [name for name in COMMANDS if name[:5] in ("score", "quant")])
def test_files_are_written_though_nobody_reads(inside, close, command):
    words, names = [*command.split(), "--out", "out"], COMMANDS[command]
    if close == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device without space")
    line = f"{{ sleep 0.3; exec {sys.executable} -m eval {' '.join(words)} 2>errors; }} {close}"
    run = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == {"| true": 141, ">&-": 0, "> /dev/full": 2}[close]
    assert sorted(os.listdir("out")) == sorted(names)  # noqa: PTH208
    errors = Path("errors").read_text(encoding="utf-8")
    assert errors.count("\n") == (close == "> /dev/full") + errors.count("compiling")
    assert ("standard output must take what is printed" in errors) == (close == "> /dev/full")


def test_an_interrupt_in_the_last_write_waits_for_it(inside):
    told = []

    def stop(result):
        told.append(result)
        signal.setitimer(signal.ITIMER_REAL, 1e-6)  # in what follows

    def interrupt(*_arguments):
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            score(
                ToyModel(), DATA, out=Path("out"), write_report=True, on_result=stop,
                checkpoint=Path("saved"),
            )  # fmt: skip
    finally:
        signal.signal(signal.SIGALRM, old)
    assert len(told) == 1
    again = score(ToyModel(), DATA, out=Path("out"), write_report=True, checkpoint=Path("saved"))
    assert again.bits == told[0].bits
    assert sorted(os.listdir("out")) == ["documents.csv", "result.json"]  # noqa: PTH208


def test_the_report_in_the_folder_is_that_of_the_run(inside):
    result = score(ToyModel(), DATA, out=Path("out"), write_report=True)
    assert Path("out/result.json").read_text(encoding="utf-8") == result.to_json()
    score(ToyModel(context=8), DATA, out=Path("out"), overwrite=True)
    assert sorted(os.listdir("out")) == ["documents.csv"]  # noqa: PTH208


@pytest.mark.parametrize("kind", ["a pipe", "a link", "too large"])
def test_a_report_that_cannot_be_the_runs_own_is_anothers(inside, kind):
    options = {"out": Path("out"), "checkpoint": Path("saved")}
    score(ToyModel(), DATA, **options)
    path = Path("out/result.json")
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a link":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b" " * (1 << 24) + b"{}")
    with pytest.raises(ValueError) as error:
        score(ToyModel(), DATA, **options)
    assert str(error.value) == (
        "results must become files, got out/result.json, a pipe; remove it"
        if kind == "a pipe"
        else "--out must hold no results of another run, got result.json, documents.csv in out; "
        "choose another folder, or replace them with --overwrite"
    )


def test_a_checkpoint_that_cannot_be_saved_does_not_hide_what_ended_the_run(inside, monkeypatch):
    class Failing(ToyModel):
        def logits(self, tokens):
            if self.calls == 3:
                fail_at(monkeypatch, "checkpoint.ngrammix", errno.ENOSPC)
                raise KeyError("of the model")
            return super().logits(tokens)

    config = ScoreConfig(batch=1, stride=8, causality_check=False)
    with pytest.raises(KeyError) as error:
        score(Failing(), DATA, config, checkpoint=Path("saved"))
    assert error.value.__notes__ == [
        "snapshots must become a file, got saved/checkpoint.ngrammix, which cannot be written: "
        f"{FULL}"
    ]
