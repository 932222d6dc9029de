"""Runs and saves that are killed at every file operation, within writes, and at random moments."""

import pytest

from tests.faults.kill import kill_at_each, kill_at_random, main
from tests.faults.scenes import SCENES, Scene

SAVES = ("save-cache", "save-mixer", "save-quant")


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("name", SAVES)
def test_saves_survive_a_kill_at_every_operation(tmp_path, name, halves):
    kills, wrong = kill_at_each(name, tmp_path / "scene", halves=halves)
    assert kills >= 4
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step"), [("score", 3), ("score-again", 3), ("quantize", 3), ("quantize-gptq", 2)]
)
def test_runs_survive_a_kill_at_every_third_operation(tmp_path, name, step):
    kills, wrong = kill_at_each(name, tmp_path / "scene", halves=True, step=step)
    assert kills >= 6
    assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score", "save-mixer"])
def test_runs_survive_kills_at_random_moments(tmp_path, name):
    kills, wrong = kill_at_random(name, tmp_path / "scene", 24, seed=3)
    assert kills > 0  # some runs are faster
    assert wrong == []


def test_a_kill_shows_what_is_wrong(tmp_path, monkeypatch):
    def in_place(folder):
        with (folder / "a").open("wb") as file:
            file.write(b"the new content")

    scene = Scene(lambda folder: (folder / "a").write_bytes(b"old"), in_place, ("a",))
    monkeypatch.setitem(SCENES, "in place", scene)
    kills, wrong = kill_at_each("in place", tmp_path / "scene", halves=True)
    assert (kills, wrong) == (2, ["in place, killed at 2: a is neither old nor new (7 bytes)"])


def test_the_table(capsys):
    assert main(["save-quant", "--tries", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[2].strip() for line in lines] == [
        "killed at an operation", "killed within a write", "killed at random",
    ]  # fmt: skip
    assert [line.split("|")[4].strip() for line in lines] == ["0", "0", "0"]
