"""The fuzzer: every reader takes its seeds as a user may expect, and faults are written down."""

import random
import sys

import pytest

from tests.fuzz.reader import signed_snapshot, unsigned_snapshot
from tests.fuzz.registry import READERS, SEEDS, seeds
from tests.fuzz.run import fuzz, main
from tests.fuzz.verdict import WrongError, complaint, place
from tests.fuzz.watch import Watch


def test_every_reader_has_seeds_and_no_others_have():
    assert {path.name for path in SEEDS.iterdir()} == READERS.keys()


def test_a_snapshot_is_an_input_and_a_file_again():
    for data in seeds("snapshot"):
        assert signed_snapshot(unsigned_snapshot(data)) == data


def test_a_run_goes_on_with_the_seed_of_a_checkpoint(tmp_path):
    # If it is refused, the format is another: python -m tests.fuzz.make_seeds
    for data in seeds("checkpoint"):
        READERS["checkpoint"].read(data, tmp_path)


def test_mutators_repeat():
    for name, reader in READERS.items():
        if reader.mutate is not None:
            data = seeds(name)[0]
            first, again = (
                [reader.mutate(data, random.Random(i)) for i in range(5)] for _ in range(2)
            )
            assert first == again, name


def raised(function, *arguments):
    with pytest.raises(BaseException) as caught:
        function(*arguments)
    return caught.value


def test_the_verdict_on_an_error():
    from ngrammix import NgramCache
    from ngrammix.checks import as_bytes

    assert complaint(raised(NgramCache.load, "fuzzed"), "fuzzed") is None
    assert complaint(raised(NgramCache.load, "other"), "fuzzed") == "fuzzed is not named"
    assert complaint(raised(as_bytes, "x"), None) is None
    assert complaint(raised(int, "x"), None) == "a ValueError of a library"
    assert complaint(raised(b"\xff".decode), None) == "another type: builtins.UnicodeDecodeError"
    assert complaint(raised({}.__getitem__, 1), None) == "another type: builtins.KeyError"
    assert place(raised(as_bytes, "x")).startswith("ValueError at ngrammix/checks.py:")


def test_a_watch_writes_each_fault_once(tmp_path, monkeypatch):
    def read(data, folder):
        if data == b"a":
            raise KeyError(data)
        raise WrongError("it is wrong")

    monkeypatch.setitem(READERS, "toml", type(READERS["toml"])(read))
    with Watch("toml", tmp_path) as watch:
        watch.start()
        for data in (b"a", b"a", b"b"):
            watch(data)
    found = sorted(path.read_text().splitlines()[0] for path in tmp_path.glob("findings/*.txt"))
    assert found == ["traceback", "wrong result"]
    assert sorted(p.read_bytes() for p in tmp_path.glob("findings/*.input")) == [b"a", b"b"]
    assert (tmp_path / "count").read_text().startswith("[3, ")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_seeds(name, tmp_path):
    with Watch(name, tmp_path) as watch:
        for data in seeds(name):
            watch(data)
    assert [path.read_text() for path in tmp_path.glob("findings/*.txt")] == []


def test_the_driver_goes_on_after_a_process_that_ended(tmp_path, monkeypatch):
    # The first process ends at a signal after 40 inputs.
    script = """
import os, pathlib, sys
work = pathlib.Path(sys.argv[4])
(work / "current").write_bytes(b"the input")
(work / "count").write_text("[40, 1048576]")
print("#1 NEW cov: 7 ft: 9")
if sys.argv[6] == "5":
    os.abort()
"""
    (tmp_path / "python").write_text(f"#!{sys.executable}\n{script}")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    outcome = fuzz("toml", tmp_path, 100, seed=5)
    assert (outcome.inputs, outcome.faults, outcome.growth) == (100, {"crash": 1}, 1 << 20)
    assert outcome.edges in (7, None)
    findings = tmp_path / "toml/findings"
    assert (findings / "ended-1.input").read_bytes() == b"the input"
    assert (findings / "ended-1.txt").read_text().startswith("crash\nstatus -6\n")


def test_the_driver_without_a_guide_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tests.fuzz.run.has_guide", lambda: False)
    assert main(["size", "--runs", "100", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "inputs by seeded mutators alone: no atheris installed; seed 1; faults are counted by place"
    )
    cells = [cell.strip() for cell in lines[3].strip("| ").split("|")]
    assert cells[:8] == ["size", "100", *["0"] * 6]
