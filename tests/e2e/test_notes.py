"""Notes on stderr: compiling, and what takes long on a terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path
from time import sleep

import pytest

from eval.notes import note, note_if_slow

ROOT = Path(__file__).resolve().parents[2]


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "seconds", "text"),
    [(Screen, 0.3, "ngrammix: loading x\n"), (Screen, 0, ""), (io.StringIO, 0.3, "")],
)
def test_a_slow_step_is_named_on_a_terminal(monkeypatch, stream, seconds, text):
    screen = stream()
    monkeypatch.setattr("sys.stderr", screen)
    with note_if_slow("loading x", delay=0.1):
        sleep(seconds)
    sleep(0.15)
    assert screen.getvalue() == text


def test_a_stderr_that_is_closed_is_no_error(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr("sys.stderr", stream)
        note("text")


# A kernel of two lines in the place of the command: all kernels take half a minute.
CODE = """
import argparse
from eval import cli
from ngrammix.kernels.jit import jit

@jit
def add(a, b):
    return a + b

class Command:
    def run(self, arguments):
        add(1, 2)
        add(1.0, 2.0)

cli.import_module = lambda name: Command()
cli.run_command(argparse.Namespace(command="score"))
"""


def test_compiling_is_said_once_and_only_where_something_is_compiled(tmp_path):
    (tmp_path / "small.py").write_text(CODE, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("NUMBA_DISABLE_JIT", None)
    errors = [
        subprocess.run(
            [sys.executable, "small.py"], cwd=tmp_path, env=environment, timeout=120,
            capture_output=True, text=True,
        ).stderr
        for _ in range(2)
    ]  # fmt: skip
    assert errors == ["ngrammix: compiling kernels (first run only)\n", ""]
