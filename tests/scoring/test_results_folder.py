"""The folder of the results: another run's are kept, a run that goes on finds its own."""

import json

import pytest

from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.scoring.score import score
from tests.toy import ToyModel

DATA = Documents([Document("a", b"the cat sat on the mat, the cat sat on the mat")])
FILES = ["documents.csv", "result.json", "tokens.csv"]


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A folder to stand in, with two texts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 9, "utf-8")
    (tmp_path / "b.txt").write_text("a dog. " * 40, "utf-8")
    return tmp_path


def run(*arguments, model="none"):
    return main(["score", "--model", model, *arguments])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def error_of(files, out="out"):
    return (
        f"ngrammix: error: --out must hold no results of another run, got {files} in {out}; choose "
        "another folder, or replace them with --overwrite\n"
    )


def test_tokens_are_written_where_they_are_asked_for(inside, capsys):
    assert run("--data", "a.txt", "--out", "without") == 0
    assert names(inside / "without") == FILES[:2]
    assert run("--data", "a.txt", "--out", "with", "--tokens") == 0
    assert names(inside / "with") == FILES
    capsys.readouterr()
    assert run("--data", "a.txt", "--tokens") == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: --tokens needs a folder for tokens.csv, got no --out; name one\n"
    )


def test_the_results_of_another_run_are_kept(inside, capsys):
    assert run("--data", "a.txt", "--out", "out", "--tokens") == 0
    (inside / "out/notes.txt").write_text("mine", "utf-8")
    before = contents(inside / "out")
    capsys.readouterr()
    assert run("--data", "b.txt", "--out", "out", model="missing") == 2  # nothing is loaded
    assert capsys.readouterr().err == error_of("result.json, documents.csv, tokens.csv")
    assert contents(inside / "out") == before
    assert run("--data", "b.txt", "--out", "out", "--overwrite") == 0
    assert names(inside / "out") == ["documents.csv", "notes.txt", "result.json"]  # no old tokens
    assert json.loads((inside / "out/result.json").read_text("utf-8"))["data"] == "b.txt"


def test_a_run_goes_on_with_its_own_results_alone(inside, capsys):
    saved = ["--checkpoint", "saved", "--checkpoint-every", "50"]
    assert run("--data", "a.txt", "--out", "out", *saved) == 0
    whole = contents(inside / "out")
    assert run("--data", "a.txt", "--out", "out", *saved) == 0
    assert contents(inside / "out").keys() == whole.keys()
    assert contents(inside / "out")["documents.csv"] == whole["documents.csv"]
    assert run("--data", "b.txt", "--out", "other") == 0
    other = contents(inside / "other")
    capsys.readouterr()
    assert run("--data", "a.txt", "--out", "other", *saved) == 2
    assert capsys.readouterr().err == error_of("result.json, documents.csv", "other")
    assert contents(inside / "other") == other


@pytest.mark.parametrize("at", [0, 20])
def test_a_run_that_is_interrupted_early_goes_on_by_the_same_call(inside, at):
    class Interrupted(ToyModel):
        def logits(self, tokens):
            if self.calls * 8 >= at and not failed:
                failed.append(True)
                raise KeyboardInterrupt
            return super().logits(tokens)

    options = {"out": inside / "out", "write_tokens": True, "checkpoint": inside / "saved"}
    config, failed = ScoreConfig(batch=1, stride=8), []
    with pytest.raises(KeyboardInterrupt):
        score(Interrupted(), DATA, config, checkpoint_every=10, **options)
    resumed = score(Interrupted(), DATA, config, checkpoint_every=10, **options)
    whole = score(ToyModel(), DATA, config, out=inside / "whole", write_tokens=True)
    assert (resumed.bits, resumed.words) == (whole.bits, whole.words)
    assert contents(inside / "out") == contents(inside / "whole")


def test_python_refuses_and_replaces_as_the_command_does(tmp_path):
    out = tmp_path / "new" / "folder"
    score(ToyModel(), DATA, out=out, write_tokens=True)
    before = contents(out)
    with pytest.raises(ValueError) as error:
        score(ToyModel(context=8), DATA, out=out)
    assert str(error.value) == (
        f"--out must hold no results of another run, got documents.csv, tokens.csv in {out}; "
        "choose another folder, or replace them with --overwrite"
    )
    assert contents(out) == before
    score(ToyModel(context=8), DATA, out=out, overwrite=True)
    assert names(out) == ["documents.csv"]


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["compare", "--data", "a.txt", "--mixers", "gate"], "compare.json"),
        (["quantize", "--recipe", "int8", "--codec", "none"], "quantize.json, model.ngq"),
        (["pipeline", "--data", "a.txt", "--recipe", "int8", "--codec", "none", "--limit", "9"],
         "pipeline.json, int8.ngq"),
        (["demo", "--limit", "9"], "result.json, documents.csv"),
    ],
)  # fmt: skip
def test_every_command_keeps_the_results_of_another_run(inside, capsys, arguments, file):
    arguments = [*arguments, "--out", "out"]
    assert main(arguments) == 0
    before = contents(inside / "out")
    capsys.readouterr()
    assert main(arguments) == 2
    assert capsys.readouterr().err == error_of(file)
    assert contents(inside / "out") == before
    assert main([*arguments, "--overwrite"]) == 0
    assert names(inside / "out") == sorted(before)
