"""Progress: the share of the text that is scored, whatever was read ahead, and a line that fits."""

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tqdm import tqdm

from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.data.open_data import open_data
from eval.scoring import progress as module
from eval.scoring.dataloader import BatchStream
from eval.scoring.windows import make_window_shape
from tests.toy import ToyModel

ROOT = Path(__file__).resolve().parents[2]
TEXT = b"the cat sat on the mat, and " * 3000


def shares(data, **options):
    """(tokens so far, share of the data) after each batch of a toy model of bytes."""
    model, config = ToyModel(context=2000), ScoreConfig(batch=4, **{"context": 16} | options)
    stream = BatchStream(
        data, model.tokenizer, config, make_window_shape(config, model, model.tokenizer)
    )
    n, pairs = 0, []
    for batch in stream:
        n += len(batch.targets)
        pairs.append((n, stream.fraction_of(batch)))
    return pairs


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


def rows(texts):
    return b"".join(json.dumps({"text": text.decode()}).encode() + b"\n" for text in texts)


@pytest.mark.parametrize("windows", ["document", "stream"])
@pytest.mark.parametrize("kind", ["text", "one row", "rows", "ids", "files", "documents in memory"])
def test_the_share_is_that_of_the_scored_tokens(tmp_path, kind, windows):
    cut = [TEXT[:20_000], TEXT[20_000:60_000], TEXT[60_000:]]
    if kind == "text":
        data = open_data([write(tmp_path, "a.txt", TEXT)])
    elif kind == "one row":
        data = open_data([write(tmp_path, "a.jsonl", rows([TEXT]))])
    elif kind == "rows":
        data = open_data([write(tmp_path, "a.jsonl", rows(cut))])
    elif kind == "ids":
        np.save(tmp_path / "a.npy", np.frombuffer(TEXT, np.uint8))
        data = open_data([str(tmp_path / "a.npy")], bos=256, vocab_size=257)
    elif kind == "files":
        data = open_data([write(tmp_path, f"{i}.txt", part) for i, part in enumerate(cut)])
    else:
        data = Documents([Document("all", TEXT)])
    pairs = shares(data, windows=windows)
    total = pairs[-1][0]
    errors = [abs(share - n / total) for n, share in pairs]
    assert max(errors) < 0.01
    assert pairs[-1][1] == pytest.approx(1)


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zstandard.compress, lzma.compress, partial(bz2.compress, compresslevel=1)],
)
@pytest.mark.parametrize("kind", ["text", "rows"])
def test_the_share_of_a_compressed_file_is_near_that_of_the_scored_tokens(
    tmp_path, rng, kind, pack
):
    words = np.array(["the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "dog ", "lay "])
    text = "".join(words[rng.integers(0, len(words), 300_000)]).encode()
    cut = [text[i : i + 5000] for i in range(0, len(text), 5000)]
    data = open_data([write(tmp_path, "a", pack(text if kind == "text" else rows(cut)))])
    pairs = shares(data, context=2000, stride=2000)
    total = pairs[-1][0]
    assert total == len(text)
    assert max(abs(share - n / total) for n, share in pairs) < 0.15  # a block is 128 KiB of 1 MB
    assert pairs[-1][1] == pytest.approx(1, abs=0.01)


def test_a_pipe_has_no_share(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT[:999])))
    assert {share for _, share in shares(open_data(["-"]))} == {None}


def watch(monkeypatch, columns=80):
    """A screen of so many columns, on which every update is shown."""
    screen = io.StringIO()

    def watched(**options):
        assert (options["delay"], options["disable"], options.get("file")) == (2, None, None)
        return tqdm(
            **options
            | {"delay": 0, "disable": False, "file": screen, "mininterval": 0, "ncols": columns}
        )

    monkeypatch.setattr(module, "tqdm", watched)
    return lambda: [line.rstrip() for line in screen.getvalue().replace("\n", "\r").split("\r")]


@pytest.mark.parametrize(("limit", "total"), [(None, 84_000), (30_000, 30_000), (99_999, 84_000)])
def test_the_bar_ends_at_the_limit_and_shows_true_percentages(
    tmp_path, monkeypatch, capsys, limit, total
):
    shown = watch(monkeypatch)
    options = [] if limit is None else ["--limit", str(limit)]
    path = write(tmp_path, "a.txt", TEXT)
    assert main(["score", "--data", path, "--model", "none", *options]) == 0
    lines = [line for line in shown() if "%" in line and " 0/" not in line]
    percentages = [int(line.partition("%")[0]) for line in lines]
    assert percentages == sorted(percentages)
    if limit is None:
        assert 70 < percentages[0] < 85  # one batch without a model is 65,536 tokens
    assert lines[-1].startswith("100%|")
    size = f"{total / 1000:.1f}k"
    assert f" {size}/{size} tokens, " in lines[-1]
    assert max(map(len, lines)) <= 80
    bpb = float(capsys.readouterr().out.rstrip().rpartition("= ")[2])
    assert lines[-1].endswith(f" left, BPB {bpb:.4f}")


def test_without_a_size_there_is_no_percentage(tmp_path, monkeypatch, capsys):
    shown = watch(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    assert main(["score", "--data", "-", "--model", "none"]) == 0
    lines = [line for line in shown() if "BPB" in line]
    assert lines[0].startswith("65.5k tokens, ")
    assert "%" not in lines[0]
    assert lines[-1].startswith("100%|")  # now it is known


def test_a_limit_is_the_total_of_a_pipe(monkeypatch, capsys):
    shown = watch(monkeypatch)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT)))
    assert main(["score", "--data", "-", "--model", "none", "--limit", "80000"]) == 0
    first = next(line for line in shown() if "BPB" in line)
    assert first.startswith(" 82%|")
    assert " 65.5k/80.0k tokens, " in first


@pytest.mark.parametrize(("size", "width"), [((0, 0), 79), ((24, 0), 79), ((24, 60), 59)])
def test_a_terminal_that_does_not_tell_its_size_shows_the_bar_too(size, width):
    pty = pytest.importorskip("pty")
    termios, fcntl = pytest.importorskip("termios"), pytest.importorskip("fcntl")
    inner, outer = pty.openpty()
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    code = (
        "from eval.scoring.progress import token_bar\n"
        "with token_bar(True, 100) as bar:\n"
        "    bar.delay = bar.mininterval = 0\n"
        "    bar.update(50)\n"
    )
    subprocess.run([sys.executable, "-c", code], stderr=outer, cwd=ROOT, timeout=120, check=True)
    os.close(outer)
    lines = os.read(inner, 4096).decode().replace("\n", "\r").split("\r")
    os.close(inner)
    line = [line for line in lines if line.strip()][-1]
    assert line.startswith(" 50%|")
    assert len(line.rstrip()) <= width
