"""``ngrammix compare`` as a user types it: output, files, exit status, errors."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.cli import main
from eval.comparing.names import NAMES as KNOWN
from ngrammix import Mixer

COMMAND = Path(sys.executable).with_name("ngrammix")
TEXT = ("The cat sat on the mat. " * 40 + "Ende — 結び\n").encode()
V, T = 8, 2500
NAMES = ["ngrammix", "fixed", "entropy", "dirichlet", "one-hint", "hedge"]
CONDITIONS = [
    "data", "data_sha256", "model", "bos", "allow_probabilities", "versions", "bytes", "tokens",
    "documents", "order", "memory_limit",
    "prefill_tokens", "prefill_sha256", "mixers", "unit", "units", "resamples",
]  # fmt: skip
FIGURES = ["bpb", "setting", "gain", "gain_error", "bits", "bits_more", "bits_more_error"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to stand in, with logits, tokens, a shard and a text."""
    rng = np.random.default_rng(3)
    tokens = np.tile(rng.integers(0, V, 50), T // 50)
    logits = rng.normal(size=(T, V)).astype(np.float16)
    words = np.zeros(256, "<i4")
    words[:3] = 20240520, 1, T
    monkeypatch.chdir(tmp_path)
    np.save("logits.npy", logits)
    np.save("tokens.npy", tokens)
    Path("shard.bin").write_bytes(words.tobytes() + tokens.astype("<u2").tobytes())
    Path("cat.txt").write_bytes(TEXT)
    return tmp_path


MISSING = (
    "data must be a file or a folder, got missing.txt, which is missing; check the path, or pass "
    "--download if it is a data set of the Hugging Face Hub"
)
SAVED = ["compare", "--logits", "logits.npy", "--tokens", "tokens.npy"]


def test_saved_logits(folder):
    run = subprocess.run(
        [COMMAND, *SAVED, "--bytes", "7000", "--bos", "0", "--out", "out"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr in ("", "ngrammix: compiling kernels (first run only)\n")
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["setting", "BPB", "gain", "+-", "bits", "more", "+-"]
    assert [line.split()[0] for line in lines[2:9]] == ["model", *NAMES]
    assert max(map(len, lines[:-1])) <= 100

    result = json.loads((folder / "out" / "compare.json").read_text(encoding="utf-8"))
    slugs = [name.replace("-", "_") for name in ("model", *NAMES)]
    assert list(result) == [
        *CONDITIONS, *(f"{figure}_{name}" for name in slugs for figure in FIGURES),
        "signature",
    ]  # fmt: skip
    assert lines[-1] == result["signature"]
    documents, tokens = result["documents"], np.load("tokens.npy")
    assert documents == (tokens == 0).sum() + (tokens[0] != 0)
    assert f"resamples of {documents:,} documents, the same for every mixer" in run.stdout
    nats = Mixer(vocab_size=V, order=7).score(np.load("logits.npy"), tokens)
    assert result["bpb_ngrammix"] == pytest.approx(nats.sum() / math.log(2) / 7000)
    assert result["bits_more_model"] == pytest.approx(
        result["bits_model"] - result["bits_ngrammix"]
    )
    for name in slugs[1:]:
        assert result[f"bpb_{name}"] < result["bpb_model"]
        assert result[f"gain_error_{name}"] > 0


def test_a_shard_and_a_prefill(folder, capsys):
    arguments = ["compare", "--logits", "logits.npy", "--tokens", "shard.bin", "--json"]
    assert main([*arguments, "--mixers", "fixed,ngrammix"]) == 0
    cold = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--mixers", "ngrammix", "--prefill", "shard.bin", "tokens.npy"]) == 0
    warm = json.loads(capsys.readouterr().out)
    assert (cold["unit"], cold["units"]) == ("blocks of 1,024 tokens", 3)
    assert (cold["prefill_tokens"], warm["prefill_tokens"]) == (0, 2 * T)
    assert cold["bytes"] is None
    assert warm["bpt_ngrammix"] < cold["bpt_ngrammix"] < cold["bpt_model"] == warm["bpt_model"]
    assert f"|prefill:{2 * T}-" in warm["signature"]
    assert cold["bits_more_fixed"] == 0


def test_text_with_the_demo_model(folder, capsys):
    assert main(["compare", "--data", "cat.txt", "--order", "5", "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert main(["score", "--data", "cat.txt", "--order", "5", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert compared["bpb_model"] == pytest.approx(scored["bpb_model"], rel=1e-12)
    assert compared["bpb_ngrammix"] == pytest.approx(scored["bpb"], rel=1e-12)
    assert compared["bytes"] == len(TEXT)
    for key in ("data_sha256", "model", "context", "stride", "tokens", "versions"):
        assert compared[key] == scored[key]
    assert compared["signature"].split("|")[:-3] == scored["signature"].split("|")[:-3]
    for name in NAMES:
        assert compared[f"bpb_{name.replace('-', '_')}"] < compared["bpb_model"]


def test_help(capsys):
    with pytest.raises(SystemExit) as status:
        main(["compare", "--help"])
    assert status.value.code == 0
    text = capsys.readouterr().out
    for option in ("--data", "--logits", "--mixers", "--prefill", "--bytes", "--bos", "--out"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--logits", "logits.npy"],
         "--logits needs --tokens, got none; name the file of the tokens that they are for"),
        ([*SAVED[1:], "--stride", "4"], "--stride goes with --data, got --logits; leave it out"),
        ([*SAVED[1:], "--model", "demo"], "--model goes with --data, got --logits; leave it out"),
        (["--data", "cat.txt", "--tokens", "tokens.npy"],
         "--tokens goes with --logits, got --data; leave it out"),
        (["--data", "cat.txt", "--bytes", "0"],
         "--bytes goes with --logits, got --data; leave it out"),
        (["--data", "cat.txt", "--prefill", "tokens.npy"],
         "--prefill goes with --logits, got --data; leave it out"),
        ([*SAVED[1:], "--mixers", "fixed,best"],
         f"mixers must be of {', '.join(KNOWN)}, got 'best'; check the name"),
        ([*SAVED[1:], "--order", "65"],
         "order must be in 1..64, got 65; it is the length of the longest n-gram, the predicted "
         "token included"),
        ([*SAVED[1:], "--out", "cat.txt"],
         "--out must be a folder, got the file cat.txt; choose another name"),
        (["--logits", "shard.bin", "--tokens", "tokens.npy"],
         "logits must be a whole .npy file of numbers, got shard.bin; save one array with "
         "numpy.save"),
        (["--logits", "logits.npy", "--tokens", "logits.npy"],
         "tokens in logits.npy must be integer token ids, got dtype float16; cast them first if "
         "they really are token ids"),
        (["--data", "missing.txt"],
         MISSING),
    ],
)  # fmt: skip
def test_refusals(folder, capsys, arguments, text):
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"ngrammix: error: {text}\n")


def test_text_or_logits_but_not_both(folder, capsys):
    for arguments in ([], [*SAVED[1:], "--data", "cat.txt"]):
        with pytest.raises(SystemExit) as status:
            main(["compare", *arguments])
        assert status.value.code == 2
        assert capsys.readouterr().err.startswith("usage: ngrammix compare")
