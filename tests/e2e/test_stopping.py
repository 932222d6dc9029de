"""Signals: a run that is told to stop keeps what it has scored, says how to go on, and ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.cli import main
from ngrammix import snapshot
from tests.toy import heed_signals

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds, after which a run hangs

# A model that says how often it was called, and from its third batch on takes its time.
SLOW = """
import os, pathlib, time
import numpy as np
from eval.models.wrap import wrap
from eval.tokenizers.byte_tokenizer import ByteTokenizer

def network(tokens):
    network.calls += 1
    pathlib.Path("calls").write_text(str(network.calls))
    if network.calls >= 3 and "SLOW" in os.environ:
        time.sleep(30)
    return np.cos(np.arange(257) * (1 + tokens.numpy()[..., None])).astype(np.float32)

network.calls = 0

def make():
    return wrap(network, context=64, tokenizer=ByteTokenizer(256), vocab_size=257, name="slow")
"""
TEXT = b"the cat sat on the mat, and the dog lay on the log. " * 40
OPTIONS = ["score", "--data", "text", "--model", "slow:make", "--batch", "4", "--out", "out"]
OPTIONS += ["--tokens", "--no-causality-check"]  # its forward passes would be counted


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("slow.py").write_text(SLOW, encoding="utf-8")
    Path("text").write_bytes(TEXT)
    yield tmp_path
    sys.modules.pop("slow", None)


def start(*options, cache=None, **pipes):
    return subprocess.Popen(
        [sys.executable, "-m", "eval", *options],
        env=os.environ
        | {"SLOW": "1", "PYTHONPATH": str(ROOT)}
        | ({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals, **pipes,
    )  # fmt: skip


def wait_for(condition):
    until = time.monotonic() + LIMIT
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    assert condition()


def is_listening(run):
    """Whether the process handles SIGTERM by now: the bit of signal 15."""
    lines = Path(f"/proc/{run.pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> 14 & 1)


def calls():
    return int(Path("calls").read_text() or 0) if Path("calls").exists() else 0


def figures(text):
    result = json.loads(text)
    return {k: v for k, v in result.items() if not k.startswith(("seconds", "tokens_per_second"))}


def notes_left_out(errors):
    """Lines of stderr without the note of a machine that has never compiled the kernels."""
    return [line for line in errors.splitlines() if "compiling" not in line]


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_signal_keeps_what_is_scored_and_the_run_goes_on_from_there(
    folder, capsys, number, status
):
    options = [*OPTIONS, "--checkpoint", "saved here"]
    run = start(*options)
    wait_for(lambda: calls() == 3)
    run.send_signal(number)
    out, errors = run.communicate(timeout=LIMIT)
    assert (run.returncode, out) == (status, "")
    with snapshot.opened(folder / "saved here" / "checkpoint.ngrammix") as (values, _):
        position = values["state"]["position"]
    # Two batches of four windows of 32 new tokens, the first of 64: scored, though a checkpoint
    # was due after a million tokens.
    assert position == 64 + 7 * 32
    [line] = notes_left_out(errors)
    begin, _, rest = line.partition(", BPB ")
    assert begin == f"ngrammix: stopped by {number.name}; {position} tokens are scored"
    assert rest[6:] == (
        " so far, and saved in saved here; to go on, repeat: ngrammix score --data text "
        "--model slow:make --batch 4 --out out --tokens --no-causality-check "
        "--checkpoint 'saved here'"
    )
    assert main([*options, "--json"]) == 0
    resumed = figures(capsys.readouterr().out)
    assert main([*OPTIONS, "--out", "straight", "--json"]) == 0
    assert figures(capsys.readouterr().out) == resumed
    for name in ("tokens.csv", "documents.csv"):
        assert Path("out", name).read_bytes() == Path("straight", name).read_bytes()


def test_without_a_checkpoint_it_says_what_is_lost(folder):
    run = start(*OPTIONS)
    wait_for(lambda: calls() == 3)
    run.send_signal(signal.SIGINT)
    out, errors = run.communicate(timeout=LIMIT)
    assert (run.returncode, out) == (130, "")
    [line] = notes_left_out(errors)
    assert line.startswith("ngrammix: stopped by SIGINT; 288 tokens were scored, BPB ")
    assert line.endswith(" so far; --checkpoint DIR would keep them")


def test_a_pipe_that_says_nothing_does_not_hold_it_up(folder):
    with start("score", "--model", "none", "--data", "-", stdin=subprocess.PIPE) as run:
        run.stdin.write("the cat\n")
        run.stdin.flush()
        time.sleep(4)  # scoring, or still loading: it ends from anywhere
        run.send_signal(signal.SIGINT)
        assert run.wait(LIMIT) == 130
        errors = run.stderr.read()
    [line] = notes_left_out(errors)
    assert line in (
        "ngrammix: stopped by SIGINT",
        "ngrammix: stopped by SIGINT; no token was scored",
    )


def test_it_ends_while_kernels_are_compiled(folder):
    run = start(*OPTIONS, cache=folder / "numba")
    said = run.stderr.readline()
    assert said == "ngrammix: compiling kernels (first run only)\n"
    time.sleep(2)
    run.send_signal(signal.SIGINT)
    out, errors = run.communicate(timeout=LIMIT)
    assert (run.returncode, out, errors) == (130, "", "ngrammix: stopped by SIGINT\n")


@pytest.mark.parametrize("command", ["quantize --recipe int8 --out out", "demo", "bench observe"])
@pytest.mark.parametrize("delay", [0, 1.0])
def test_every_command_ends_in_one_line_wherever_it_is(folder, command, delay):
    run = start(*command.split())
    wait_for(lambda: is_listening(run))
    time.sleep(delay)
    run.send_signal(signal.SIGTERM)
    out, errors = run.communicate(timeout=LIMIT)
    assert (run.returncode, out) == (143, "")
    assert len(notes_left_out(errors)) == 1
    assert errors.splitlines()[-1].startswith("ngrammix: stopped by SIGTERM")


def test_a_signal_that_is_ignored_stays_ignored():
    code = (
        "import os, signal\n"
        "from eval.interrupts import stop_signals, uninterrupted\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with stop_signals(), uninterrupted():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "True\n")
