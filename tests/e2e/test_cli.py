"""The command as a user types it: output, files, exit status, errors."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from eval import cli
from eval.cli import main

COMMAND = Path(sys.executable).with_name("ngrammix")
TEXT = ("The cat sat on the mat. " * 40 + "Ende — 結び\n").encode()
KEYS = [
    "bpb", "bpb_model", "bpb_cache", "bits", "bits_model", "bits_cache", "bits_saved",
    "regret_bits", "bound_bits", "bytes", "tokens", "documents", "data", "data_sha256", "model",
    "context", "stride", "order", "mixer", "memory_limit", "ngrams_forgotten", "seconds",
    "seconds_model", "seconds_mixer", "seconds_cache", "seconds_compile", "tokens_per_second",
    "signature", "versions",
]  # fmt: skip


def ngrammix(*arguments):
    """Run the installed command in a process of its own."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "cat.txt"
    path.write_bytes(TEXT)
    return path


def read_tokens(folder):
    with (folder / "tokens.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_score_with_the_demo_model(text, tmp_path):
    run = ngrammix("score", "--data", str(text), "--out", str(tmp_path / "out"))
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["BPB", "bits", "saved", "tokens/s", "seconds"]
    assert [line.split("  ")[0].strip() for line in lines[2:5]] == [
        "model alone", "cache alone", "model + cache"
    ]  # fmt: skip

    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert list(result) == KEYS
    assert lines[-1] == f"{result['signature']} = {result['bpb']:.4f}"
    assert result["bytes"] == len(TEXT)
    assert result["bpb"] < result["bpb_model"]
    assert result["regret_bits"] <= result["bound_bits"] == 1.0
    assert result["bits_saved"] == pytest.approx(-result["regret_bits"], abs=1e-6)

    rows = read_tokens(tmp_path / "out")
    assert len(rows) == result["tokens"]
    assert sum(int(row["bytes"]) for row in rows) == len(TEXT)
    assert sum(float(row["bits"]) for row in rows) == pytest.approx(result["bits"], abs=1e-3)
    assert sum(float(row["bits_model"]) for row in rows) == pytest.approx(
        result["bits_model"], abs=1e-3
    )
    assert sum(float(row["bits_cache"]) for row in rows) == pytest.approx(
        result["bits_cache"], abs=1e-3
    )
    spelled = b"".join(
        TEXT[int(row["byte"]) : int(row["byte"]) + int(row["bytes"])] for row in rows
    )
    assert spelled == TEXT
    assert rows[1]["text"] == TEXT[int(rows[1]["byte"]) :][: int(rows[1]["bytes"])].decode()


def test_score_raw_bytes_with_the_cache_alone(tmp_path, capsys):
    raw = bytes(range(256)) * 4 + b"\xff\xfe"
    (tmp_path / "raw").write_bytes(raw)
    arguments = ["score", "--data", str(tmp_path / "raw"), "--model", "none", "--order", "3"]
    assert main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == KEYS
    assert printed["tokens"] == printed["bytes"] == len(raw)
    assert printed["bpb"] == printed["bpb_cache"] < 8
    assert printed["bpb_model"] is printed["regret_bits"] is printed["mixer"] is None
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "cache alone" in table
    assert "model" not in table.splitlines()[2]
    rows = read_tokens(tmp_path)
    assert [int(row["token"]) for row in rows] == list(raw)


def test_score_within_a_memory_limit(tmp_path, capsys, rng):
    (tmp_path / "raw").write_bytes(rng.integers(0, 256, 60_000, np.uint8).tobytes())
    arguments = ["score", "--model", "none", "--json", "--data", str(tmp_path / "raw")]
    results = []
    for limit in ([], ["--memory-limit", "4 MiB"]):
        assert main([*arguments, *limit]) == 0
        results.append(json.loads(capsys.readouterr().out))
    free, limited = results
    assert free["memory_limit"] is None
    assert free["ngrams_forgotten"] == 0
    assert "memory" not in free["signature"]
    assert limited["memory_limit"] == 4 << 20
    assert limited["ngrams_forgotten"] > 100_000
    assert "|memory:4194304|" in limited["signature"]


def test_files_are_documents_of_one_stream(tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"abcabcabc")
    (tmp_path / "b").write_bytes(b"abcabcabc")
    bits = []
    for files in (["a"], ["a", "b"]):
        paths = [str(tmp_path / file) for file in files]
        assert main(["score", "--model", "none", "--json", "--data", *paths]) == 0
        bits.append(json.loads(capsys.readouterr().out)["bits"])
    assert bits[1] - bits[0] < bits[0]  # the second is known from the first


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "missing.txt"],
         "text must be a file, got missing.txt, which is missing; check the path"),
        (["--data", "."], "text must be a file, got ., which is a folder; check the path"),
        (["--data", "empty"], "text must hold at least one byte, got the empty file empty"),
        (["--data", "latin1"],
         "text must be UTF-8 for this model, got byte 0xe9 at 3 in latin1 (invalid continuation "
         "byte); convert the file, or score its raw bytes with --model none"),
        (["--data", "latin1", "--model", "none", "--stride", "4"],
         "--stride is for a model's windows, got --model none; leave it out"),
        (["--data", "good", "--out", "good"],
         "--out must be a folder, got the file good; choose another name"),
        (["--data", "good", "--order", "0"],
         "order must be in 1..32, got 0; it is the length of the longest n-gram, the predicted "
         "token included"),
        (["--data", "good", "--memory-limit", "much"],
         "memory_limit must be a number of bytes > 0, got 'much'; pass an int, or text such as "
         '"2GiB"'),
        (["--data", "good", "--stride", "513"],
         "stride must be in 1..512 (the model's context), got 513; a longer one would skip tokens"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, monkeypatch, capsys, arguments, text):
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("good").write_bytes(b"good")
    Path("latin1").write_bytes("café au lait".encode("latin-1"))
    assert main(["score", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"ngrammix: error: {text}\n"


@pytest.mark.parametrize("model", ["none", "demo"])
def test_progress_counts_every_token(text, monkeypatch, capsys, model):
    screen, asked = io.StringIO(), {}

    def watched(**options):
        asked.update(options)
        return tqdm(**options | {"delay": 0, "disable": False, "file": screen, "mininterval": 0})

    monkeypatch.setattr(cli, "tqdm", watched)
    assert main(["score", "--data", str(text), "--model", model, "--json"]) == 0
    n_tokens = json.loads(capsys.readouterr().out)["tokens"]
    last = screen.getvalue().rstrip().rpartition("\r")[2]
    assert f"{n_tokens}/{n_tokens}" in last.replace(".00", "")
    assert "100%" in last
    assert (asked["delay"], asked["disable"], asked.get("file")) == (2, None, None)


def test_help_and_version():
    run = ngrammix("--version")
    assert (run.returncode, run.stdout) == (0, "ngrammix 0.1.0\n")
    for arguments in ([], ["score"], ["demo"], ["bench"], ["bench", "observe"], ["bench", "scale"]):
        run = ngrammix(*arguments, "--help")
        assert run.returncode == 0
        assert run.stdout.startswith("usage: ngrammix")
    assert ngrammix().returncode == 2
    assert ngrammix("score").returncode == 2


def test_python_dash_m_eval_is_the_command(text):
    run = subprocess.run(
        [sys.executable, "-m", "eval", "score", "--model", "none", "--data", str(text)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "cache alone" in run.stdout


def test_bench_observe_measures_every_peer(tmp_path, capsys, rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)  # as where it is not installed
    words = np.zeros(256, "<i4")
    words[:3] = 20240520, 1, 3000
    tokens = rng.integers(0, 30, 3000).astype("<u2")
    (tmp_path / "s.bin").write_bytes(words.tobytes() + tokens.tobytes())
    arguments = ["bench", "observe", "--data", str(tmp_path / "s.bin"), "--runs", "2"]
    assert main([*arguments, "--dict-tokens", "1000", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    for name in ("token by token", "Python dict, tuned", "numpy, chunks of 8,192", "[6]"):
        assert name in table
    assert max(map(len, table.splitlines())) <= 100
    result = json.loads((tmp_path / "observe.json").read_text(encoding="utf-8"))
    peers = (
        "token_by_token", "python_dict", "python_dict_tuned", "numpy_counts",
        "numpy_counts_large_chunks",
    )  # fmt: skip
    for name in ("observe", "cold", "two_threads", "two_threads_cold", *peers):
        assert result[f"tokens_per_second_{name}"] > 0
    for name in (*peers, "limit", "strict_limit"):
        assert 0 < result[f"ratio_to_{name}"] < math.inf
    for name in ("ratio_two_threads_to_one", "ratio_two_threads_to_token_by_token"):
        assert 0 < result[name] < math.inf
    assert result["same_bits"] is True
    assert result["reads_per_token"] == 2 * result["order"]
    assert result["limit_tokens_per_second"] > 0
    assert result["strict_limit_tokens_per_second"] > 0
    assert result["tokens_per_second_kenlm"] is None
    assert table.count("not installed: pip install kenlm") == 3
    assert main([*arguments, "--dict-tokens", "0"]) == 2
    assert (
        "--dict-tokens must be >= 1, got 0; leave it out for the default" in capsys.readouterr().err
    )


def test_bench_scale_looks_at_every_size(tmp_path, capsys, rng):
    words = np.zeros(256, "<i4")
    words[:3] = 20240520, 1, 3000
    tokens = rng.integers(0, 30, 3000).astype("<u2")
    (tmp_path / "s.bin").write_bytes(words.tobytes() + tokens.tobytes())
    arguments = ["bench", "scale", "--data", str(tmp_path / "s.bin"), "--out", str(tmp_path)]
    assert main([*arguments, "--millions", "0.005", "0.002"]) == 0
    assert "n-grams/token" in capsys.readouterr().out
    result = json.loads((tmp_path / "scale.json").read_text(encoding="utf-8"))
    assert [row["tokens"] for row in result["sizes"]] == [2000, 5000]
    assert result["sizes"][0]["seconds"] < result["sizes"][1]["seconds"]
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    for bad in ("0", "nan", "inf"):
        assert main([*arguments, "--millions", bad]) == 2
        text = f"--millions must be >= 0.000001, got {float(bad)}; leave it out for 2 8 20 62"
        assert text in capsys.readouterr().err
    words[2] = 2
    (tmp_path / "s.bin").write_bytes(words.tobytes() + tokens[:2].tobytes())
    assert main(arguments) == 2
    text = "the sampler needs at least 3 tokens, got 2 in s.bin; use more"
    assert text in capsys.readouterr().err


@pytest.mark.slow
def test_the_demo(tmp_path):
    run = ngrammix("demo", "--out", str(tmp_path))
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["bpb_model"] < 2.6
    assert result["bpb"] < result["bpb_model"]
    assert result["bpb"] < result["bpb_cache"]
    assert result["regret_bits"] <= result["bound_bits"]
    assert (tmp_path / "tokens.csv").stat().st_size > 1_000_000
