"""The soak test in short; `make soak` runs it over 62 million tokens."""

import subprocess
import sys

import pytest

from tools import soak

SHORT = ["--tokens", "250000", "--checks", "40", "--memory-limit", "5MiB"]


def test_a_short_stream_passes_every_check(tmp_path):
    command = [sys.executable, soak.__file__, *SHORT, "--out", str(tmp_path / "a" / "soak.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" 0\n") == 7
    assert '"evictions": 0' not in (tmp_path / "a" / "soak.json").read_text()


@pytest.mark.parametrize("fault", ["bits", "sum"])
def test_a_failure_is_the_exit_status(fault, monkeypatch, capsys):
    def run(arguments, size, threads):
        found = {"cache": {"n-grams": threads if fault == "bits" else 1}}
        return {"found": found, "tries": {"a": 3}, "failures": {"a": int(fault == "sum")}}

    monkeypatch.setattr(soak, "in_a_process", run)
    monkeypatch.setattr(sys, "argv", ["soak.py"])
    assert soak.main() == 1
    assert capsys.readouterr().out.endswith("1         1\n" if fault == "bits" else "1         0\n")
