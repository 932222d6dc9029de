"""One data set under every name that people give it: the same figures, from the command line."""

import bz2
import gzip
import io
import json
import lzma
import math
import sys

import pytest
import zstandard

from eval.cli import main
from ngrammix.reference.cache import ReferenceCache

TEXTS = ["the cat sat on the mat", "the dog sat on the log"]
LINES = "".join(f'{{"text":"{text}"}}\n' for text in TEXTS).encode()
ORDER = 24
FILES = {
    "a.jsonl": LINES,
    "c4-validation.00000-of-00008.json.gz": gzip.compress(LINES),
    "a.ndjson": LINES,
    "a.json": LINES,
    "array.json": json.dumps([{"text": text} for text in TEXTS]).encode(),
    "A.JSONL": LINES,
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.jsonl.zst": zstandard.compress(LINES),
    "a.csv": ("\ufefftext\r\n" + "\r\n".join(TEXTS)).encode(),
    "noname": LINES,
    "mark.jsonl": b"\xef\xbb\xbf" + LINES,
    "blank.jsonl": LINES.replace(b"\n", b"\r\n\r\n"),
    "texts/1.txt": TEXTS[0].encode(),
    "texts/2.txt.gz": gzip.compress(TEXTS[1].encode()),
    "lines/a.jsonl": LINES.splitlines(keepends=True)[0],
    "lines/b.jsonl.gz": gzip.compress(LINES.splitlines()[1]),
}
NAMES = [*(name for name in FILES if "/" not in name), "texts", "lines", "lines/*.jsonl*", "-"]


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    return tmp_path


def score(capsys, *arguments):
    """The result that the command prints as JSON."""
    status = main(["score", "--json", *arguments])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    return json.loads(captured.out)


@pytest.fixture(scope="module")
def bits():
    """Bits of the texts under the reference cache, byte by byte."""
    cache, total = ReferenceCache(vocab_size=256, order=ORDER), 0.0
    for text in TEXTS:
        raw = list(text.encode())
        for t, byte in enumerate(raw):
            total -= math.log2(cache.distribution(raw[:t])[byte])
            cache.update(raw[:t], byte)
    return total


@pytest.mark.parametrize("name", NAMES)
def test_every_name_gives_the_same_figures(capsys, bits, name):
    result = score(capsys, "--model", "none", "--data", name)
    assert (result["bytes"], result["documents"], result["rows_skipped"]) == (44, 2, 0)
    assert result["bpb"] == pytest.approx(bits / 44, rel=1e-11)


def test_a_model_reads_compressed_rows_as_plain_ones(capsys):
    figures = [
        score(capsys, "--data", name)["signature"]
        for name in ("a.jsonl", "c4-validation.00000-of-00008.json.gz")
    ]
    assert figures[0] == figures[1]


def test_null_rows_and_nested_columns(inside, capsys):
    (inside / "null.jsonl").write_bytes(b'{"text":"a"}\n{"text":null}\n')
    (inside / "nest.jsonl").write_bytes(b'{"meta":{"text":"a"}}\n')
    alone = ["--model", "none", "--data"]
    skipped = score(capsys, *alone, "null.jsonl", "--on-bad-row", "skip")
    nested = score(capsys, *alone, "nest.jsonl", "--column", "meta.text")
    assert (skipped["bpb"], skipped["rows_skipped"]) == (pytest.approx(8), 1)
    assert (nested["bpb"], nested["rows_skipped"]) == (pytest.approx(8), 0)
    assert main(["score", *alone, "null.jsonl", "--skip-empty"]) == 2
    assert "column text must hold a string, got null in null.jsonl:2; " in capsys.readouterr().err
