"""open_data: every kind of data under one name after the other, and every refusal."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from eval.data import open_data as module
from eval.data.cuts import PIECE
from eval.data.data_hash import sha256
from eval.data.open_data import open_data
from eval.data.text import read_documents


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, content):
    path.write_bytes(content)


def write_shard(path, tokens, *, magic=20240520, version=1, n=None, n_bytes=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if n is None else n
    raw = header.tobytes() + np.array(tokens, "<u2").tobytes()
    path.write_bytes(raw[:n_bytes])


def write_table(path, **columns):
    parquet.write_table(pa.table(columns), path)


def lines(*texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def test_names_of_every_kind_are_one_stream(inside):
    write(inside / "a.txt", b"a\r\n" * PIECE)
    write(inside / "b.jsonl", lines("b1", "b2"))
    write_table(inside / "c.parquet", text=["c1", "c2", "c3"])
    write(inside / "d", b"d")
    names = ["a.txt", "b.jsonl", "c.parquet", "d"]
    data = open_data(names)
    assert data.name == "a.txt, b.jsonl, c.parquet, d"
    assert data.size == sum((inside / name).stat().st_size for name in names)
    documents = list(data)
    assert [d.name for d in documents if d.begins] == [
        "a.txt", "b.jsonl:1", "b.jsonl:2", "c.parquet:1", "c.parquet:2", "c.parquet:3", "d"
    ]  # fmt: skip
    assert b"".join(d.raw for d in documents) == b"a\r\n" * PIECE + b"b1b2c1c2c3d"
    offsets = [d.offset for d in documents]
    assert offsets == sorted(offsets)
    assert offsets[-1] == data.size
    assert [d.raw for d in data] == [d.raw for d in documents]  # from the beginning again


@given(st.lists(st.binary(min_size=1, max_size=3 * PIECE), min_size=1, max_size=3))
def test_pieces_have_the_hash_of_the_whole(tmp_path_factory, raws):
    folder = tmp_path_factory.getbasetemp()
    paths = [str(folder / f"t{i}") for i in range(len(raws))]
    for path, raw in zip(paths, raws, strict=True):
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(raw)
    assert sha256(open_data(paths, format="bytes")) == sha256(read_documents(paths))


def test_the_same_rows_have_the_same_hash_in_any_table(inside):
    texts = ["one", "two\n" * PIECE, "é"]
    write(inside / "t.jsonl", lines(*texts))
    write(inside / "t.jsonl.gz", gzip.compress(lines(*texts)))
    write_table(inside / "t.parquet", text=texts)
    assert len({sha256(open_data([f"t{s}"])) for s in (".jsonl", ".jsonl.gz", ".parquet")}) == 1


def test_token_files_are_one_stream(inside):
    write_shard(inside / "a.bin", [1, 5, 6])
    np.save(inside / "b.npy", np.array([7, 1, 8]))
    write_shard(inside / "a_bytes.bin", [0, 2, 3])
    np.save(inside / "b_bytes.npy", np.array([4, 0, 5]))
    data = open_data(["a.bin", "b.npy"], bos=1, token_bytes=["a_bytes.bin", "b_bytes.npy"])
    assert (data.name, data.size) == ("a.bin, b.npy bytes a_bytes.bin, b_bytes.npy", 6)
    rows = [(d.name, d.tokens.tolist(), d.token_bytes.tolist(), d.begins, d.offset) for d in data]
    assert rows == [
        ("a.bin:1", [5, 6], [2, 3], True, 3),
        ("a.bin:1", [7], [4], False, 4),
        ("b.npy:1", [8], [5], True, 6),
    ]
    (document,) = open_data(["a.bin"], token_bytes="a_bytes.bin")
    assert document.token_bytes.tolist() == [0, 2, 3]


def test_empty_documents_are_left_out_when_asked(inside):
    write(inside / "a.txt", b"")
    write(inside / "b.jsonl", lines("x", "", "y"))
    write_shard(inside / "c.bin", [1, 1, 5, 1])
    assert [d.raw for d in open_data(["a.txt", "b.jsonl"], skip_empty=True)] == [b"x", b"y"]
    (document,) = open_data(["c.bin"], bos=1, skip_empty=True)
    assert (document.name, document.tokens.tolist(), document.begins) == ("c.bin:2", [5], True)


def test_only_a_permitted_name_is_asked_of_the_hub(monkeypatch):
    asked = []

    def streaming(name, config, column, split):
        asked.append((name, config, column, split))
        return open_data(["-"])

    monkeypatch.setattr(module, "open_hub", streaming)
    open_data(["org/set:en"], download=True, column="content", split="test")
    open_data(["wikitext"], download=True)
    assert asked == [("org/set", "en", "content", "test"), ("wikitext", None, "text", None)]
    for name, download in (("org/set", False), ("a/b/c", True), ("../x", True), ("a b", True)):
        with pytest.raises(ValueError) as error:
            open_data([name], download=download)
        assert str(error.value) == (
            f"data must be a file or a folder, got {name}, which is missing; check the path, or "
            "pass --download if it is a data set of the Hugging Face Hub"
        )
    assert len(asked) == 2


DROP = "; remove it, or pass --skip-empty"
NOT_NPY = "tokens must be a whole .npy file of numbers, got t.npy; save one array with numpy.save"
CASES = {
    "no name": (lambda p: None, [], {}, "data must be at least one name, got none; name a file"),
    "missing file": (
        lambda p: None,
        ["none.txt"],
        {},
        "data must be a file or a folder, got none.txt, which is missing; check the path, or pass "
        "--download if it is a data set of the Hugging Face Hub",
    ),
    "empty file": (
        lambda p: write(p / "a.txt", b""),
        ["a.txt"],
        {},
        "document must hold at least one byte, got the empty a.txt" + DROP,
    ),
    "empty row": (
        lambda p: write(p / "a.jsonl", lines("x", "", "y")),
        ["a.jsonl"],
        {},
        "document must hold at least one byte, got the empty a.jsonl:2" + DROP,
    ),
    "empty cell": (
        lambda p: write_table(p / "a.parquet", text=["x", ""]),
        ["a.parquet"],
        {},
        "document must hold at least one byte, got the empty a.parquet:2" + DROP,
    ),
    "empty tokens": (
        lambda p: write_shard(p / "a.bin", [1, 5, 1, 1, 6]),
        ["a.bin"],
        {"bos": 1},
        "document must hold at least one token, got the empty a.bin:2" + DROP,
    ),
    "no rows": (
        lambda p: write(p / "a.jsonl", b""),
        ["a.jsonl"],
        {},
        "data must hold at least one document, got none in a.jsonl; name other files",
    ),
    "no rows of Parquet": (
        lambda p: write_table(p / "a.parquet", text=pa.array([], pa.string())),
        ["a.parquet"],
        {},
        "data must hold at least one document, got none in a.parquet; name other files",
    ),
    "only empty documents": (
        lambda p: write(p / "a.txt", b""),
        ["a.txt"],
        {"skip_empty": True},
        "data must hold at least one document, got none in a.txt; name other files",
    ),
    "text and tokens": (
        lambda p: None,
        ["a.txt", "b.bin"],
        {},
        "data must be all text or all tokens, got both in a.txt, b.bin; score them in separate "
        "runs",
    ),
    "side-car of text": (
        lambda p: None,
        ["a.txt"],
        {"token_bytes": "s.bin"},
        "token_bytes goes with token files, got it with a.txt; leave it out",
    ),
    "split of a file": (
        lambda p: write(p / "a.txt", b"x"),
        ["a.txt"],
        {"split": "test"},
        "split applies to data sets with splits, got test for a.txt, which has none; leave --split "
        "out",
    ),
    "missing tokens": (
        lambda p: None,
        ["a.bin"],
        {},
        "shard must be a file, got a.bin; check the path",
    ),
    "wrong magic": (
        lambda p: write_shard(p / "a.bin", [1, 2], magic=20240521),
        ["a.bin"],
        {},
        "shard must begin with 20240520, 1, or 20240801, 7, got [20240521, 1] in a.bin; name the "
        "dtype of a file without a header with --token-dtype, such as uint16",
    ),
    "wrong version": (
        lambda p: write_shard(p / "a.bin", [1, 2], version=2),
        ["a.bin"],
        {},
        "shard must begin with 20240520, 1, or 20240801, 7, got [20240520, 2] in a.bin; name the "
        "dtype of a file without a header with --token-dtype, such as uint16",
    ),
    "short header": (
        lambda p: write_shard(p / "a.bin", [1, 2], n_bytes=1000),
        ["a.bin"],
        {},
        "shard of 0 tokens must have 1024 bytes, got 1000 in a.bin; it is cut short or damaged",
    ),
    "truncated shard": (
        lambda p: write_shard(p / "a.bin", [1, 2], n=3),
        ["a.bin"],
        {},
        "shard of 3 tokens must have 1030 bytes, got 1028 in a.bin; it is cut short or damaged",
    ),
    "shard of no tokens": (
        lambda p: write_shard(p / "a.bin", []),
        ["a.bin"],
        {},
        "shard must hold at least one token, got 0 in a.bin; leave it out",
    ),
    "pickle": (lambda p: np.save(p / "t.npy", np.array([{}])), ["t.npy"], {}, NOT_NPY),
    "truncated array": (
        lambda p: (np.save(p / "t.npy", [1, 2]),
                   write(p / "t.npy", (p / "t.npy").read_bytes()[:-1])),
        ["t.npy"],
        {},
        NOT_NPY,
    ),
    "two dimensions": (
        lambda p: np.save(p / "t.npy", [[1, 2]]),
        ["t.npy"],
        {},
        "tokens must be a 1-D array of at least one, got shape (1, 2) in t.npy; save them in "
        "stream order",
    ),
    "floats": (
        lambda p: np.save(p / "t.npy", [1.0]),
        ["t.npy"],
        {},
        "tokens must be integers, got float64 in t.npy; save them as integers",
    ),
    "token beyond V": (
        lambda p: write_shard(p / "a.bin", [1, 5, 8]),
        ["a.bin"],
        {"bos": 1, "vocab_size": 8},
        "token must be in [0, 8), got 8 at 2 of a.bin; check that the file and the model have the "
        "same vocabulary",
    ),
    "side-car too long": (
        lambda p: (write_shard(p / "a.bin", [1, 5]), write_shard(p / "s.bin", [0, 5, 5])),
        ["a.bin"],
        {"bos": 1, "token_bytes": "s.bin"},
        "token bytes must be as many as the tokens, got 3 in s.bin for 2 in a.bin; include the "
        "tokens that begin documents",
    ),
    "one side-car for two": (
        lambda p: [write_shard(p / name, [1, 2]) for name in ("a.bin", "b.bin", "s.bin")],
        ["a.bin", "b.bin"],
        {"token_bytes": "s.bin"},
        "token bytes must be one file for each token file, got 1 for 2; pass them in the same "
        "order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused_data(inside, name):
    make, paths, options, text = CASES[name]
    make(inside)
    with pytest.raises(ValueError) as error:
        list(open_data(paths, **options))
    assert str(error.value) == text


def test_what_is_wrong_with_a_later_name_is_said_before_the_first_is_read(inside):
    write(inside / "a.txt", b"x")
    write_table(inside / "b.parquet", content=["x"])
    for later in ("b.parquet", "missing"):
        with pytest.raises(ValueError):
            open_data(["a.txt", later])
