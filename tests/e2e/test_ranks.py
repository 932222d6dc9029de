"""Score by many ranks, as torchrun starts them: same bits, and what happens when one fails."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from eval.cli import main
from eval.demo.reference_text import reference_text
from ngrammix import snapshot
from tests.toy import heed_signals

GO_ON = "run again, with the same --checkpoint to go on"
STOPPED = r"ngrammix: stopped by SIGTERM; on rank 1 of 3\n"
SAVED = (
    r"ngrammix: stopped by SIGINT; \d,\d{3} tokens are scored, BPB \d\.\d{4} so far, and saved in "
    r"checkpoint; on rank 0 of 3; to go on, start all ranks again with the same options\n"
)
LIMIT = 60  # seconds, after which a rank hangs

# A model that fails at its eighth batch, on the rank and in the manner of the variable SICK.
SICK = """
import os, pathlib, signal
import numpy as np
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.models.wrap import wrap

def make():
    calls = 0
    def network(tokens):
        nonlocal calls
        calls += 1
        rank, _, manner = os.environ.get("SICK", "").partition(":")
        logits = np.cos(np.arange(256) * (1 + tokens.numpy()[..., None])).astype(np.float32)
        if calls == 8 and os.environ.get("RANK") == rank:
            if manner == "NaN":
                logits[:] = np.nan
            elif manner == "error":
                raise RuntimeError("out of order")
            else:
                pathlib.Path("pid").write_text(str(os.getpid()))
                os.kill(os.getpid(), getattr(signal, manner))
        return logits
    return wrap(network, context=64, tokenizer=ByteTokenizer(), vocab_size=256, name="sick")
"""


def start(folder, n_ranks, *options, **environment):
    """Torchrun under way; what each rank says goes to files under `folder`/log."""
    launch = ["--standalone", "--nproc-per-node", str(n_ranks), "--redirects", "3"]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *launch, "--log-dir", "log",
         "-m", "eval", "score", *options],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_signals,
    )  # fmt: skip


def output_of(folder, stream="stderr"):
    """Output of the ranks, in the order of the ranks."""
    paths = (folder / "log").glob(f"*/attempt_0/*/{stream}.log")
    return [path.read_text(encoding="utf-8") for path in sorted(paths)]


def outcome(folder):
    """Everything that a score left but times: of result.json the text without their lines."""
    lines = (folder / "result.json").read_text(encoding="utf-8").splitlines()
    others = [line for line in lines if "second" not in line.partition(":")[0]]
    assert len(others) == len(lines) - 6
    return others, *((folder / f"{name}.csv").read_bytes() for name in ("tokens", "documents"))


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "n_ranks", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_any_number_of_ranks_has_the_same_outcome(tmp_path, one_thread, capsys, n_ranks):
    (tmp_path / "a").write_bytes(reference_text()[:11_000])
    (tmp_path / "b").write_bytes(reference_text()[20_000:25_000])
    # Seven batches: two or three ranks do not divide them, so the last group has one batch.
    data = ["--data", str(tmp_path / "a"), str(tmp_path / "b"), "--batch", "4", "--stride", "200"]
    data += ["--tokens"]
    assert main(["score", *data, "--out", str(tmp_path / "alone")]) == 0
    capsys.readouterr()
    run = start(tmp_path, n_ranks, *data, "--out", "out", "--json")
    assert run.wait(LIMIT) == 0, output_of(tmp_path)
    assert outcome(tmp_path / "out") == outcome(tmp_path / "alone")
    result = (tmp_path / "out" / "result.json").read_text(encoding="utf-8")
    assert output_of(tmp_path, "stdout") == [result] + [""] * (n_ranks - 1)
    leader, *others = output_of(tmp_path)
    assert leader in ("", "ngrammix: compiling kernels (first run only)\n")
    assert others == [""] * (n_ranks - 1)


@pytest.fixture
def sick(tmp_path, monkeypatch, one_thread):
    """(Options of a run that fails, the outcome of the run without a failure)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sick.py").write_text(SICK, encoding="utf-8")
    (tmp_path / "text").write_bytes(reference_text()[:9000])
    options = ["--data", "text", "--model", "sick:make", "--bos", "0", "--tokens"]
    options += ["--no-causality-check"]  # its forward passes would be counted
    assert main(["score", *options, "--out", "whole"]) == 0
    return [*options, "--checkpoint", "checkpoint", "--checkpoint-every", "1000"], outcome(
        tmp_path / "whole"
    )


def go_on(folder, options, expected):
    """The checkpoint is whole, and the run goes on from there, on one rank, to the same outcome."""
    parts = snapshot_position(folder)
    assert 1000 <= parts < 9000
    assert main(["score", *options, "--out", "out"]) == 0
    assert outcome(folder / "out") == expected


def snapshot_position(folder):
    with snapshot.opened(folder / "checkpoint" / "checkpoint.ngrammix") as (values, _):
        return values["state"]["position"]


@pytest.mark.parametrize(
    ("failing", "causes"),
    [
        ("2:SIGKILL",
         ["rank 2 is gone (connection closed); " + GO_ON] * 2 + [None]),
        pytest.param(
            "0:SIGKILL",
            [None] + ["rank 0 is gone (connection closed); " + GO_ON] * 2,
            marks=pytest.mark.slow),
        pytest.param(
            "1:NaN",
            ["rank 1: {}", "{}", "rank 1: {}"],
            marks=pytest.mark.slow),
        pytest.param(
            "0:SIGINT",
            [SAVED] + ["rank 0: stopped by SIGINT; " + GO_ON] * 2,
            marks=pytest.mark.slow),
        pytest.param(
            "1:SIGTERM",
            ["rank 1: stopped by SIGTERM; " + GO_ON, STOPPED,
             "rank 1: stopped by SIGTERM; " + GO_ON],
            marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_rank_that_fails_is_named_by_all(tmp_path, sick, failing, causes):
    options, expected = sick
    run = start(tmp_path, 3, *options, "--out", "out", SICK=failing)
    assert run.wait(LIMIT) == 1
    # Groups of batches end at checkpoints, every four batches: rank 1 runs only the second one.
    # Its eighth is batch 29, and batches are of 256 targets, the first of 288.
    nan = (
        "logits must be numbers below +inf, got nan at position 7456; look for an overflow in the "
        "model, or compute the logits in float32 (the model is sick)"
    )
    for rank, (cause, output) in enumerate(zip(causes, output_of(tmp_path), strict=True)):
        if cause in (STOPPED, SAVED):
            assert re.fullmatch(cause, output)
        else:
            error = f"ngrammix: error: rank {rank} of 3: {cause and cause.format(nan)}\n"
            named = re.sub(r"sick-[0-9a-f]{8}\)", "sick)", output)  # the hash of its code
            assert named == (error if cause else "")
    go_on(tmp_path, options, expected)


@pytest.mark.slow
def test_an_error_that_nobody_expects_names_its_place_and_a_file_with_the_traceback(tmp_path, sick):
    options, _ = sick
    run = start(tmp_path, 2, *options, "--out", "out", SICK="1:error", TMPDIR=str(tmp_path))
    assert run.wait(LIMIT) == 1
    leader, other = output_of(tmp_path)
    assert leader == "ngrammix: error: rank 0 of 2: rank 1: RuntimeError: out of order\n"
    begin, _, file = other.partition("; the traceback is in ")
    assert begin.startswith("ngrammix: error: RuntimeError (out of order; on rank 1 of 2) at ")
    assert re.fullmatch(r".*sick\.py:\d+", begin)
    lines = Path(file.strip()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["RuntimeError: out of order", "on rank 1 of 2"]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 2])
def test_a_rank_that_hangs_is_named_by_all(tmp_path, sick, stopped):
    options, expected = sick
    run = start(
        tmp_path, 3, *options, "--out", "out", SICK=f"{stopped}:SIGSTOP", NGRAMMIX_RANK_TIMEOUT="2"
    )
    error = f"rank {stopped} is silent for 2 s; {GO_ON}\n"
    wanted = [
        "" if rank == stopped else f"ngrammix: error: rank {rank} of 3: {error}"
        for rank in range(3)
    ]
    until = monotonic() + LIMIT
    while output_of(tmp_path) != wanted and monotonic() < until:
        sleep(0.1)
    assert output_of(tmp_path) == wanted
    # torchrun would wait 30 s for it
    os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGKILL)
    assert run.wait(LIMIT) == 1
    go_on(tmp_path, options, expected)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_starts_is_an_error(rank):
    ranks = {"RANK": str(rank), "WORLD_SIZE": "2", "NGRAMMIX_START_TIMEOUT": "3"}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    run = subprocess.run(
        [sys.executable, "-m", "eval", "score", "--data", "text"],
        env=os.environ | ranks | {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert run.returncode == 2
    assert f"ngrammix: error: rank {rank} of 2: all 2 ranks must start within 3 s, got " in (
        run.stderr
    )
    missing = f"rank 0, which listens at localhost:{port}" if rank else "rank 1"
    assert f", got no sign of {missing}; look at" in run.stderr
    assert run.stderr.endswith(
        "; look at the errors of the other ranks, and at MASTER_ADDR and MASTER_PORT\n"
    )


@pytest.mark.slow
def test_every_rank_names_those_that_never_start():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    ranks = {"WORLD_SIZE": "4", "NGRAMMIX_START_TIMEOUT": "8"}
    ranks |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "eval", "score", "--data", "text"],
            env=os.environ | ranks | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 2)
    ]
    errors = [run.communicate(timeout=LIMIT)[1] for run in runs]
    assert [run.returncode for run in runs] == [2, 2]
    assert errors[0] == (  # rank 2 may only learn that rank 0, which holds the store, is gone
        "ngrammix: error: rank 0 of 4: all 4 ranks must start within 8 s, got no sign of rank "
        "1, 3; look at the errors of the other ranks, and at MASTER_ADDR and MASTER_PORT\n"
    )
    assert "ngrammix: error: rank 2 of 4: all 4 ranks must start within 8 s, got " in errors[1]


@pytest.mark.slow
def test_one_rank_begins_and_three_go_on(tmp_path, sick):
    options, expected = sick
    run = start(tmp_path, 1, *options, "--out", "out", SICK="0:SIGKILL")
    assert run.wait(LIMIT) == 1
    assert 1000 <= snapshot_position(tmp_path) < 9000
    run = start(tmp_path, 3, *options, "--out", "out")
    assert run.wait(LIMIT) == 0
    assert outcome(tmp_path / "out") == expected
