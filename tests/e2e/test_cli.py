"""The command as a user types it: output, files, exit status, errors."""

import csv
import io
import json
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from tqdm import tqdm

from eval.cli import main
from eval.scoring import score as scoring
from eval.scoring.result import Result
from ngrammix.cache.ngram_cache import NgramCache

COMMAND = Path(sys.executable).with_name("ngrammix")
TEXT = ("The cat sat on the mat. " * 40 + "Ende — 結び\n").encode()
KEYS = [field.name for field in fields(Result)]


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
    run = ngrammix("score", "--data", str(text), "--out", str(tmp_path / "out"), "--tokens")
    assert run.returncode == 0, run.stderr
    assert run.stderr in ("", "ngrammix: compiling kernels (first run only)\n")
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["BPB", "s.e.", "bits", "saved", "tokens/s", "seconds"]
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
    decoded = b"".join(
        TEXT[int(row["byte"]) : int(row["byte"]) + int(row["bytes"])] for row in rows
    )
    assert decoded == TEXT
    assert rows[1]["text"] == TEXT[int(rows[1]["byte"]) :][: int(rows[1]["bytes"])].decode()


def test_score_raw_bytes_with_the_cache_alone(tmp_path, capsys):
    raw = bytes(range(256)) * 4 + b"\xff\xfe"
    (tmp_path / "raw").write_bytes(raw)
    arguments = ["score", "--data", str(tmp_path / "raw"), "--model", "none", "--order", "3"]
    arguments += ["--format", "bytes"]
    assert main([*arguments, "--json", "--out", str(tmp_path), "--tokens"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == KEYS
    assert printed["tokens"] == printed["bytes"] == len(raw)
    assert printed["bpb"] == printed["bpb_cache"] < 8
    assert printed["bpb_model"] is printed["regret_bits"] is printed["context"] is None
    assert printed["mixer"] == "none"
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "cache alone" in table
    assert "model" not in table.splitlines()[2]
    rows = read_tokens(tmp_path)
    assert [int(row["token"]) for row in rows] == list(raw)


def test_score_within_a_memory_limit(tmp_path, capsys, rng):
    (tmp_path / "raw").write_bytes(rng.integers(0, 256, 60_000, np.uint8).tobytes())
    arguments = ["score", "--model", "none", "--json", "--data", str(tmp_path / "raw")]
    arguments += ["--format", "bytes", "--order", "7"]
    results = []
    for limit in ([], ["--memory-limit", "1 MiB"]):
        assert main([*arguments, *limit]) == 0
        results.append(json.loads(capsys.readouterr().out))
    free, limited = results
    assert free["memory_limit"] is None
    assert free["ngrams_evicted"] == 0
    assert "memory" not in free["signature"]
    assert limited["memory_limit"] == 1 << 20
    assert limited["ngrams_evicted"] > 30_000
    assert "|memory:1048576|" in limited["signature"]


def test_threads_change_no_figure(tmp_path, capsys, rng, monkeypatch):
    (tmp_path / "raw").write_bytes(rng.integers(0, 4, 40_000, np.uint8).tobytes())
    arguments = ["score", "--model", "none", "--json", "--data", str(tmp_path / "raw")]
    arguments += ["--format", "bytes"]
    used, results = [], []

    class Cache(NgramCache):
        def __init__(self, **options):
            used.append(options["n_threads"])
            super().__init__(**options)

    monkeypatch.setattr(scoring, "NgramCache", Cache)
    for threads in ("1", "2"):
        assert main([*arguments, "--threads", threads]) == 0
        result = json.loads(capsys.readouterr().out)
        is_time = ("seconds", "tokens_per_second")
        results.append({k: v for k, v in result.items() if not k.startswith(is_time)})
    assert used == [1, 2]
    assert results[0] == results[1]


def test_files_are_documents_of_one_stream(tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"abcabcabc")
    (tmp_path / "b").write_bytes(b"abcabcabc")
    bits = []
    for files in (["a"], ["a", "b"]):
        paths = [str(tmp_path / file) for file in files]
        assert main(["score", "--model", "none", "--json", "--data", *paths]) == 0
        bits.append(json.loads(capsys.readouterr().out)["bits"])
    assert bits[1] - bits[0] < bits[0]  # the second is known from the first


@pytest.fixture
def bad(tmp_path, monkeypatch):
    """A folder to stand in, full of what nobody can score."""
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("good").write_bytes(b"good")
    Path("latin1").write_bytes("café au lait".encode("latin-1"))
    Path("rows.jsonl").write_text('{"text": "one"}\n{"text": ""}\n{"body": "x"}\n', "utf-8")
    Path("broken.jsonl").write_text('{"text": "one"}\n{"text": \n', "utf-8")
    words = np.zeros(256, "<i4")
    words[:3] = 20240520, 1, 3
    tokens = np.array([1, 5, 1030], "<u2").tobytes()
    Path("shard.bin").write_bytes(words.tobytes() + tokens)
    Path("short.bin").write_bytes(words.tobytes() + tokens[:4])
    words[0] = 20240521
    Path("magic.bin").write_bytes(words.tobytes() + tokens)
    np.save("floats.npy", np.zeros(3))
    np.save("ids.npy", np.array([5, 6, 7]))
    np.save("two_bytes.npy", np.array([1, 1]))
    Path("pickled").mkdir()
    Path("pickled/config.json").write_text("{}", "utf-8")
    Path("pickled/pytorch_model.bin").touch()
    Path("factories.py").write_text(
        "from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers\n"
        "def number(): return 3\n"
        "def lossy():\n"
        "    from eval.tokenizers.huggingface import FastTokenizer\n"
        "    from eval.models.wrap import wrap\n"
        "    import torch\n"
        "    letters = pre_tokenizers.ByteLevel.alphabet()\n"
        "    lower = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(letters))}, []))\n"
        "    lower.normalizer = normalizers.Lowercase()\n"
        "    lower.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)\n"
        "    lower.decoder = decoders.ByteLevel()\n"
        "    return wrap(lambda t: torch.zeros(*t.shape, 300), context=8, name='lossy',\n"
        "                tokenizer=FastTokenizer(lower, bos=0, name='lower'))\n",
        "utf-8",
    )
    Path("run.toml").write_text('ordre = 3\ndata = ["good"]\n', "utf-8")
    Path("type.toml").write_text('order = "3"\ndata = ["good"]\n', "utf-8")
    Path("cut.toml").write_text("order = \n", "utf-8")


REFUSED = [
    (["--data", "missing.txt"],
     "data must be a file or a folder, got missing.txt, which is missing; check the path, or pass "
     "--download if it is a data set of the Hugging Face Hub"),
    ([], "--data must name at least one file or data set, got none; name one"),
    (["--data", "empty"],
     "document must hold at least one byte, got the empty empty; remove it, or pass --skip-empty"),
    (["--data", "empty", "--skip-empty"],
     "data must hold at least one document, got none in empty; name other files"),
    (["--data", "latin1"],
     "text must be UTF-8 for this model, got byte 0xe9 at 3 in latin1 (invalid continuation "
     "byte); convert the file, or score its raw bytes with --model none"),
    (["--data", "rows.jsonl"],
     "document must hold at least one byte, got the empty rows.jsonl:2; remove it, or pass "
     "--skip-empty"),
    (["--data", "rows.jsonl", "--skip-empty"],
     "row must have column text, got body in rows.jsonl:3; name the column of the text with "
     "--column"),
    (["--data", "broken.jsonl"],
     "row must be JSON in UTF-8, got broken.jsonl:2 (Expecting value); correct it, or pass "
     "--format text if it is no table"),
    (["--data", "short.bin"],
     "shard of 3 tokens must have 1030 bytes, got 1028 in short.bin; it is cut short or damaged"),
    (["--data", "magic.bin"],
     "shard must begin with 20240520, 1, or 20240801, 7, got [20240521, 1] in magic.bin; name the "
     "dtype of a file without a header with --token-dtype, such as uint16"),
    (["--data", "shard.bin", "--model", "demo"],
     "token must be in [0, 1024), got 1030 at 2 of shard.bin; check that the file and the model "
     "have the same vocabulary"),
    (["--data", "floats.npy"],
     "tokens must be integers, got float64 in floats.npy; save them as integers"),
    (["--data", "ids.npy", "--token-bytes", "two_bytes.npy"],
     "token bytes must be as many as the tokens, got 2 in two_bytes.npy for 3 in ids.npy; include "
     "the tokens that begin documents"),
    (["--data", "ids.npy", "good"],
     "data must be all text or all tokens, got both in ids.npy, good; score them in separate runs"),
    (["--data", "good", "--model", "factories:number"],
     "a model factory must return a model, got 'factories:number', which returned an object of "
     "type int; return a torch module, or a function from tokens to logits"),
    (["--data", "good", "--model", "factories:none"],
     "a model factory must be a function, got 'factories:none': factories has no 'none'; name a "
     "function that returns the model"),
    (["--data", "good", "--model", "nowhere:make"],
     "a model must be importable, got 'nowhere:make': No module named 'nowhere'; check the name "
     "and the current directory"),
    (["--data", "good", "--model", "pickled"],
     "weights must be .safetensors, got pytorch_model.bin in pickled; pickles can run code: save "
     "the model with save_pretrained(safe_serialization=True)"),
    (["--data", "good", "--model", "nobody/model"],
     "a model must be demo, package.module:factory, a folder or a name on the Hub, got "
     "'nobody/model', which is no folder and not in the local cache; check the name, or pass "
     "--download"),
    (["--data", "latin1", "--model", "none", "--stride", "4"],
     "--stride needs a model, got --model none; leave it out"),
    (["--data", "good", "--out", "good"],
     "--out must be a folder, got the file good; choose another name"),
    (["--data", "good", "--order", "0"],
     "order must be in 1..64, got 0; it is the length of the longest n-gram, the predicted "
     "token included"),
    (["--data", "good", "--memory-limit", "much"],
     "memory_limit must be a number of bytes > 0, got 'much'; pass an int, or text such as "
     '"2GiB" (2G: the same; 2GB: by 1000)'),
    (["--data", "good", "--context", "513"],
     "context must be at most the 512 that demo allows, got 513; pass a smaller one"),
    (["--data", "good", "--stride", "513"],
     "stride must be in 1..512 (the context), got 513; a longer one would skip tokens"),
    (["--data", "good", "--bos", "1024"],
     "--bos must be below the 1024 tokens of the model, got 1024; pass the id of a token"),
    (["--data", "good", "--limit", "0"], "limit must be >= 1, got 0; leave it out for the default"),
    (["--data", "good", "--tokenizer", "good"],
     "tokenizer must be bytes, a .json, a .model, a .tiktoken or a folder, got good; check the "
     "path"),
    (["--data", "good", "--log", "paper"],
     "a log must go to wandb, mlflow or tensorboard:DIR, got 'paper'; leave it out for none"),
    (["--config", "missing.toml"], "--config must be a file, got missing.toml; check the path"),
    (["--config", "run.toml"], "run.toml must hold options alone, got ordre; did you mean order?"),
    (["--config", "type.toml"], "type.toml: order must be int, got '3'; correct the option"),
    (["--config", "cut.toml"],
     "--config must be TOML, got cut.toml: Invalid value (at line 1, column 9); correct it"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "text"), REFUSED)
def test_refusals(bad, capsys, arguments, text):
    assert main(["score", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"ngrammix: error: {text}\n"


def test_a_tokenizer_that_loses_bytes_is_refused(bad, capsys):
    Path("Loud").write_bytes(b"quiet LOUD")
    assert main(["score", "--data", "Loud", "--model", "factories:lossy"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: tokens must decode to the raw bytes, got 10 for 10 in Loud, b'loud' for "
        "b'LOUD' at byte 6 (upper case becomes lower case); take a tokenizer that loses nothing, "
        "or score the raw bytes with --model none\n"
    )


def test_a_run_that_is_killed_goes_on_to_the_same_result(text, tmp_path):
    """kill -9, as a user's machine does it, once there is a checkpoint."""
    outs = [tmp_path / "straight", tmp_path / "killed"]
    again = tmp_path / "again.txt"
    again.write_bytes(TEXT)
    arguments = ["score", "--data", str(text), str(again), "--batch", "1", "--stride", "8"]
    arguments += ["--tokens"]
    assert ngrammix(*arguments, "--out", str(outs[0])).returncode == 0
    checkpoint = tmp_path / "checkpoint"
    arguments += ["--checkpoint", str(checkpoint), "--checkpoint-every", "20"]
    arguments += ["--out", str(outs[1])]
    kills, file = 0, checkpoint / "checkpoint.ngrammix"
    for _ in range(3):
        before = file.read_bytes() if file.exists() else b""
        process = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL)
        while process.poll() is None and (file.read_bytes() if file.exists() else b"") == before:
            time.sleep(0.01)
        process.kill()
        kills += process.wait() == -signal.SIGKILL
    assert kills
    run = ngrammix(*arguments)
    assert run.returncode == 0, run.stderr
    results = []
    for out in outs:
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        is_time = ("seconds", "tokens_per_second")
        results.append({k: v for k, v in result.items() if not k.startswith(is_time)})
    assert results[0] == results[1]
    for name in ("tokens.csv", "documents.csv"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


@pytest.mark.parametrize("model", ["none", "demo"])
def test_progress_counts_every_token(text, monkeypatch, capsys, model):
    screen, asked = io.StringIO(), {}

    def watched(**options):
        asked.update(options)
        return tqdm(**options | {"delay": 0, "disable": False, "file": screen, "mininterval": 0})

    monkeypatch.setattr("eval.scoring.progress.tqdm", watched)
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


@pytest.mark.slow
def test_the_demo(tmp_path):
    run = ngrammix("demo", "--out", str(tmp_path), "--tokens")
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["bpb_model"] < 2.6
    assert result["bpb"] < result["bpb_model"]
    assert result["bpb"] < result["bpb_cache"]
    assert result["regret_bits"] <= result["bound_bits"]
    assert (tmp_path / "tokens.csv").stat().st_size > 1_000_000
