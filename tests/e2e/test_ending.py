"""How a command ends: one line on stderr and an exit status, whatever happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval.cli import main
from eval.commands.parser import command_parsers
from eval.ending import end
from eval.out_of_memory import HELP

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
# Models that fail as they score.
FACTORIES = """
from eval.models.wrap import wrap
from eval.tokenizers.byte_tokenizer import ByteTokenizer

def make(error):
    def network(tokens):
        raise error
    return lambda: wrap(network, context=8, tokenizer=ByteTokenizer(256), vocab_size=257, name="x")

broken = make(KeyError("nobody foresaw this"))
several_lines = make(ValueError("one\\n  two"))
missing = make(ModuleNotFoundError("No module named 'flash'"))
interrupted = make(KeyboardInterrupt())
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Path("factories.py").write_text(FACTORIES, encoding="utf-8")
    Path("text").write_text("the cat", encoding="utf-8")
    yield tmp_path
    sys.modules.pop("factories", None)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("PYTHONUNBUFFERED=1 score --data text --model none | true", 141),
        ("score --data text --model none --json | true", 141),
        ("--help | true", 141),
        ("score --help | true", 141),
        ("score --data text --model none --json | cat", 0),
        ("score --data missing | true", 2),
    ],
)
def test_a_reader_that_goes_away_is_no_error(folder, words, status):
    words, _, reader = words.partition(" | ")
    command = words.removeprefix("PYTHONUNBUFFERED=1 ")
    # The reader is gone before the first line is written.
    line = f"{{ sleep 0.2; exec {sys.executable} -m eval {command} 2>errors; }} | {reader}"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1" if words != command else ""},
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == status
    errors = Path("errors").read_text(encoding="utf-8")
    assert ("missing" in errors) if status == 2 else ("compiling" in errors or errors == "")
    assert done.stderr == b""


def test_a_full_disk_is_one_line(folder):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device without space")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "eval", "--help"], stdout=full, stderr=subprocess.PIPE,
            text=True, timeout=60, env=ENVIRONMENT,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "ngrammix: error: standard output must take what is printed, got: No space left on device; "
        "make room on its disk, or send it elsewhere\n"
    )


def run(capsys, name):
    status = main(["score", "--data", "text", "--model", f"factories:{name}"])
    captured = capsys.readouterr()
    assert captured.out == ""
    return status, captured.err


def test_an_error_that_nobody_foresaw_names_its_place_and_the_file_of_its_traceback(
    folder, capsys, monkeypatch
):
    status, error = run(capsys, "broken")
    begin, _, path = error.partition("; the traceback is in ")
    assert status == 1
    place = folder / "factories.py"
    assert begin == f"ngrammix: error: KeyError ('nobody foresaw this') at {place}:7"
    lines = Path(path.rstrip("\n")).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'nobody foresaw this'"
    monkeypatch.setattr("tempfile.tempdir", str(folder / "nowhere"))
    status, error = run(capsys, "broken")  # without a place for the file
    assert error.startswith(f"{begin}; {lines[0]}\\n")
    assert error.endswith(f"\\n{lines[-1]}\n")


def test_what_else_ends_a_command_is_one_line(folder, capsys):
    assert run(capsys, "several_lines") == (2, "ngrammix: error: one\\n  two\n")
    assert run(capsys, "missing") == (
        2,
        "ngrammix: error: No module named 'flash'; install it, or check the name\n",
    )
    assert run(capsys, "interrupted") == (130, "ngrammix: stopped by SIGINT\n")


CONDITIONS = "--batch, --context, --logits-memory or --memory-limit"


@pytest.mark.parametrize(
    ("command", "mend"),
    [
        ("score", f"lower {CONDITIONS}, or take a smaller model"),
        ("demo", f"lower {CONDITIONS}"),
        ("compare", f"lower {CONDITIONS}, name fewer --mixers, or take a smaller model"),
        (
            "quantize",
            "lower --calibration-tokens, --context or --logits-memory, or take a smaller model",
        ),
        ("pipeline", f"lower --calibration-tokens, {CONDITIONS}, or take a smaller model"),
        ("bench", "lower the sizes that its --help lists"),
        ("plot", "draw fewer folders at once"),
        ("completion", "close other programs"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 1.2 TiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=lambda value: str(value)[:9],
)
def test_memory_that_does_not_suffice_is_one_line_with_what_helps(capsys, command, mend, error):
    assert end(error, [command, "--limit", "9"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: memory must be enough for the run, got an allocation that failed "
        f"({error}); {mend}\n"
    )


def test_the_options_that_help_are_options_of_the_command():
    for command, text in HELP.items():
        if command in ("bench", "plot"):
            continue
        _, commands = command_parsers()
        commands[command].add_options()
        for flag in re.findall(r"--[a-z-]+", text):
            assert flag in commands[command]._option_string_actions, (command, flag)
