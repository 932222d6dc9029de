"""What a file holds, whatever it is called: the same rows, the same text, or a refusal."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pyarrow as pa
import pytest
import torch
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st
from pyarrow import feather, parquet
from safetensors.numpy import save

from eval.data.compression import compression_of
from eval.data.file_data import FileData
from eval.data.formats import is_utf_8
from eval.data.open_data import open_data
from eval.data.source import HEAD

TEXTS = ['the cat\r\nsat, "on" the mat', "é\u2028 ", "c\t"]
ROWS = [{"id": i, "text": text, "meta": {"text": text}} for i, text in enumerate(TEXTS)]


def arrow(new):
    def write(rows):
        sink, table = io.BytesIO(), pa.Table.from_pylist(rows)
        with new(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()

    return write


def written(write):
    def to_bytes(rows):
        sink = io.BytesIO()
        write(pa.Table.from_pylist(rows), sink)
        return sink.getvalue()

    return to_bytes


def separated(delimiter):
    def write(rows):
        fields = [["id", "text"], *([str(row["id"]), row["text"]] for row in rows)]
        quoted = [['"' + field.replace('"', '""') + '"' for field in row] for row in fields]
        return "".join(delimiter.join(row) + "\r\n" for row in quoted).encode()

    return write


def json_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


MAKERS = {
    "jsonl": json_lines,
    "json": lambda rows: json.dumps(rows, indent=1).encode(),
    "json of one line": lambda rows: json.dumps(rows).encode(),
    "json objects": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows).encode(),
    "csv": separated(","),
    "tsv": separated("\t"),
    "parquet": written(parquet.write_table),
    "arrow": arrow(pa.ipc.new_file),
    "arrow stream": arrow(pa.ipc.new_stream),
    "feather": written(feather.write_feather),
}
COMPRESSORS = {
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
}
NAMES = [
    ("a.jsonl", "jsonl"), ("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.json", "jsonl"),
    ("a.json", "json"), ("a.Json", "json of one line"), ("a.json", "json objects"),
    ("a.csv", "csv"), ("a.TSV", "tsv"), ("a.parquet", "parquet"), ("a.pq", "parquet"),
    ("a.arrow", "arrow"), ("a.arrow", "arrow stream"), ("a.feather", "feather"),
    ("a", "jsonl"), ("a", "json"), ("a.data", "json objects"), ("a", "parquet"),
    ("a", "arrow stream"), ("a.1", "feather"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raws(*arguments, **options):
    """The bytes of each document."""
    found = []
    for document in open_data(*arguments, **options):
        if document.begins:
            found.append(b"")
        found[-1] += document.raw
    return found


@pytest.mark.parametrize(("name", "kind"), NAMES)
def test_rows_are_the_same_whatever_holds_them(inside, name, kind):
    content = MAKERS[kind](ROWS)
    (inside / name).write_bytes(content)
    assert raws(name) == [text.encode() for text in TEXTS]
    if kind in ("parquet", "arrow", "feather"):
        return  # read in any order
    for suffix, compress in COMPRESSORS.items():
        (inside / (name + suffix)).write_bytes(compress(content))
        assert raws(name + suffix) == [text.encode() for text in TEXTS]
        data = open_data(name + suffix)
        offsets = [document.offset for document in data]
        assert offsets == sorted(offsets)
        assert offsets[-1] <= data.size == (inside / (name + suffix)).stat().st_size


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "arrow stream"])
@pytest.mark.parametrize("suffix", ["", *COMPRESSORS])
def test_a_pipe_loses_no_byte(monkeypatch, kind, suffix):
    rows = ROWS * 3000  # more than the first bytes
    content = COMPRESSORS.get(suffix, bytes)(MAKERS[kind](rows))
    reader, writer = os.pipe()

    def feed():
        with os.fdopen(writer, "wb", 0) as pipe:
            for start in range(0, len(content), 1000):  # in small parts
                pipe.write(content[start : start + 1000])

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reader) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        found = raws("-", format="csv" if kind == "csv" else "auto")
    thread.join()
    assert found == [row["text"].encode() for row in rows]


@pytest.mark.parametrize("suffix", ["", *COMPRESSORS])
@given(raw=st.binary(min_size=1, max_size=200))
def test_a_text_is_its_bytes(tmp_path_factory, suffix, raw):
    assume(compression_of(raw) is None)
    path = tmp_path_factory.getbasetemp() / f"a.txt{suffix}"
    path.write_bytes(COMPRESSORS.get(suffix, bytes)(raw))
    assert raws(path, format="text") == [raw]
    assert raws(path, format="bytes") == [path.read_bytes()]


def test_content_tells_whether_a_file_is_compressed(inside):
    (inside / "a.jsonl.gz").write_bytes(json_lines(ROWS))
    (inside / "b.jsonl").write_bytes(lzma.compress(json_lines(ROWS)))
    (inside / "c").write_bytes(b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + zstandard.compress(b"text"))
    assert raws(["a.jsonl.gz", "b.jsonl"]) == 2 * [text.encode() for text in TEXTS]
    assert raws("c") == [b"text"]


@pytest.mark.parametrize(("kind", "name"), [("csv", "a"), ("tsv", "a.out")])
def test_what_may_be_a_header_is_asked_about(inside, kind, name):
    (inside / name).write_bytes(MAKERS[kind](ROWS))
    with pytest.raises(ValueError) as error:
        open_data(name)
    assert str(error.value) == (
        f"data must be a text or a table, got a first line that may name columns in {name}; pass "
        f"--format {kind}, or --format text"
    )
    assert raws(name, format=kind) == [text.encode() for text in TEXTS]
    assert raws(name, format="text") == [MAKERS[kind](ROWS)]


def test_what_is_text_stays_text(inside):
    texts = {
        "a": "plain text", "b.py": '{"a"}', "c": "{curly", "d": '["foo"](link)', "e": "[1] note",
        "f": "PK is a text", "g": "GIF89b", "h": "ORCHESTRA", "i": "%PDQ", "j": "\u00e9" * HEAD,
        "k": "\ufeff{ x", "l.pt": "Olá", "m.csv.txt": "a,b\n1\n", "n": "\x1b[1mbold",
        "o": "a, text, b", "p": "text\na",
    }  # fmt: skip
    for name, text in texts.items():
        (inside / name).write_text(text, encoding="utf-8")
        assert raws(name) == [text.encode()]
    (inside / "latin").write_bytes("été".encode("latin-1"))
    assert raws("latin") == ["été".encode("latin-1")]


def test_lines_of_json_in_a_text_are_one_text_and_said_to_be(inside):
    (inside / "a.txt").write_bytes(json_lines(ROWS))
    text = (
        "a.txt is scored as one text, as its name says, though its lines are JSON objects; pass "
        "--format jsonl to score their column"
    )
    with pytest.warns(UserWarning, match=f"^{text}$"):
        assert raws("a.txt") == [json_lines(ROWS)]
    assert raws("a.txt", format="jsonl") == [text.encode() for text in TEXTS]


def numpy_archive():
    sink = io.BytesIO()
    np.savez(sink, a=np.arange(3))
    return sink.getvalue()


def torch_file(**options):
    sink = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, sink, **options)
    return sink.getvalue()


def zip_file():
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        file.writestr("a.txt", "text")
    return sink.getvalue()


def npy_file():
    sink = io.BytesIO()
    np.save(sink, np.arange(3))
    return sink.getvalue()


NAME_IT = "name its format with --format, or the type of its ids with --token-dtype"
SAVE_IT = "save its texts as .jsonl, or its ids as .npy"
FOREIGN = {
    "a.npz": (numpy_archive, "a NumPy archive (.npz)", "save one array with numpy.save"),
    "a.pt": (torch_file, "a file of torch.save", SAVE_IT),
    "b.pt": (lambda: torch_file(_use_new_zipfile_serialization=False),
             "a Python pickle (.pkl, .pt)", SAVE_IT),
    "a.pkl": (lambda: pickle.dumps([1]), "a Python pickle (.pkl, .pt)", SAVE_IT),
    "a.zip": (zip_file, "a ZIP archive (.zip, .docx, .xlsx)", "unpack it and name the files in it"),
    "a.tar.gz": (lambda: gzip.compress(bytes(257) + b"ustar\x0000"), "a tar archive",
                 "unpack it and name the files in it"),
    "a.gz": (lambda: gzip.compress(gzip.compress(b"a")), "gzip data that was compressed twice",
             "decompress it once"),
    "a.dat": (npy_file, "a NumPy array", "give it the suffix .npy"),
    "a.shard": (lambda: np.array([20240520, 1, 1], "<i4").tobytes(), "a token shard",
                "give it the suffix .bin"),
    "a.safetensors": (lambda: save({"a": np.zeros(2)}), "a safetensors file",
                      "name its folder with --model, or a text"),
    "a.gguf": (lambda: b"GGUF\x03\x00\x00\x00", "ORC, Feather 1, Avro, GGUF or RIFF data", SAVE_IT),
    "a.png": (lambda: b"\x89PNG\r\n\x1a\n", "an image", "name a text"),
    "a.txt": (lambda: b"\x7fELF\x02", "a program", "name a text"),
    "b.jsonl": (lambda: b"%PDF-1.7\n", "a PDF", SAVE_IT),
    "c.jsonl": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
                "a pointer of Git LFS, not the file", "run git lfs pull"),
    "random": (lambda: bytes(range(256)), "unknown binary data", NAME_IT),
    "controls": (lambda: b"\x01\xff", "unknown binary data", NAME_IT),
    "random.txt": (lambda: bytes(range(256)), "unknown binary data",
                   NAME_IT),
    "u16": (lambda: "text".encode("utf-16"), "UTF-16 text", "convert it to UTF-8"),
    "u16.txt": (lambda: "text".encode("utf-16"), "UTF-16 text", "convert it to UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_what_holds_no_text_is_refused_by_name(inside, name):
    make, what, mend = FOREIGN[name]
    (inside / name).write_bytes(make())
    with pytest.raises(ValueError) as error:
        open_data(name)  # before anything is read
    assert str(error.value) == (
        f"data must be text or a known format, got {what} in {name}; {mend}, or pass --format "
        "bytes to score its raw bytes"
    )
    assert raws(name, format="bytes") == [make()]


MISNAMED = {
    "rows in a text": ("a.txt", "parquet", {}, "data must be text as its name says, got parquet in "
                       "a.txt; pass --format parquet"),
    "rows in lines": ("a.jsonl", "arrow", {}, "data must be jsonl as its name says, got arrow in "
                      "a.jsonl; pass --format arrow"),
    "another format": ("a", "parquet", {"format": "csv"}, "data must be csv as --format says, got "
                       "parquet in a; pass --format parquet"),
    "no Parquet": ("a.parquet", "jsonl", {}, "a.parquet must be a complete Parquet file, got a "
                   "damaged one; download or write it again"),
    "no Arrow": ("a.arrow", "jsonl", {}, "a.arrow must be complete Arrow data, got a damaged one; "
                 "download or write it again"),
    "an array in lines": ("a.jsonl", "json of one line", {}, "row must be a JSON object, got an "
                          'array in a.jsonl:1; write it as {"text": ...}'),
    "column of a text": ("a.txt", "csv", {"column": "text"}, "column applies to tables, got text "
                         "for a.txt, which has none; leave --column out, or say with --format what "
                         "the table is"),
    "no format": ("a", "csv", {"format": "xml"}, "format must be one of auto, text, bytes, jsonl, "
                  "json, csv, tsv, parquet, arrow, got 'xml'; correct it"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISNAMED)
def test_what_is_not_what_its_name_says_is_refused(inside, case):
    name, kind, options, text = MISNAMED[case]
    (inside / name).write_bytes(MAKERS[kind](ROWS))
    with pytest.raises(ValueError) as error:
        raws(name, **options)
    assert str(error.value) == text


@pytest.mark.parametrize(("kind", "what"), [("parquet", "Parquet"), ("arrow", "Arrow file")])
def test_what_is_read_in_any_order_must_be_on_disk(inside, monkeypatch, kind, what):
    content = MAKERS[kind](ROWS)
    (inside / "a.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    for name, shown, how in (
        ("a.gz", "a.gz", "in gzip data"),
        ("-", "standard input", "in a pipe"),
    ):
        with pytest.raises(ValueError) as error:
            raws(name)
        assert str(error.value) == (
            f"{what} must be on disk and not compressed as a whole, got it {how} in {shown}; save "
            "it as a file, decompressed"
        )


def test_standard_input_must_be_open(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ValueError) as error:
        raws("-")
    assert str(error.value) == "standard input must be open, got it closed; name a file instead"


def test_a_column_of_a_text_in_a_pipe_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    with pytest.raises(ValueError, match=r"^column applies to tables, got a for standard input, "):
        raws("-", column="a")


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 3))
def test_a_head_may_end_within_a_character(text, n_letters):
    raw = (b"a" * n_letters + text.encode() * HEAD)[:HEAD]
    assert is_utf_8(raw)
    assert not is_utf_8(b"\xff" + raw[:-1])


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_bomb_is_read_in_bounded_memory(inside, suffix):
    (inside / f"a.txt{suffix}").write_bytes(COMPRESSORS[suffix](bytes(100_000_000)))
    assert (inside / f"a.txt{suffix}").stat().st_size < 200_000
    tracemalloc.start()
    total = sum(len(document.raw) for document in FileData(f"a.txt{suffix}", option="text"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 100_000_000
    assert peak < 16_000_000  # the dictionary of .xz has 8 MiB


def test_an_xz_file_may_hold_streams_and_padding_but_nothing_else(inside):
    one = lzma.compress(b"a" * 100_000)
    (inside / "a.xz").write_bytes(one + bytes(8) + one + bytes(4))
    assert raws("a.xz") == [b"a" * 200_000]
    for after in (b"junk", one[:-1], bytes(4) + b"x"):
        (inside / "a.xz").write_bytes(one + after)
        with pytest.raises(ValueError, match=r"^a.xz must be a complete xz file, got an error "):
            raws("a.xz")
