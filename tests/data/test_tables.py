"""Tables: a document a row, its bytes those of UTF-8, in order, whatever holds the rows."""

import bz2
import gc
import gzip
import json
import lzma
import tracemalloc
from unittest.mock import patch

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from eval.data.file_data import FileData
from eval.data.open_data import open_data

TEXTS = st.lists(st.text(max_size=30), min_size=1, max_size=8)


def lz4(raw):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(raw)
    return sink.getvalue().to_pybytes()


ZSTD = zstandard.ZstdCompressionParameters(write_checksum=True)
COMPRESSORS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(compression_params=ZSTD).compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "lz4": lz4,
}
WRITERS = {".jsonl": bytes, **{f".jsonl.{kind}": press for kind, press in COMPRESSORS.items()}}


def json_lines(texts, *, is_ascii=False):
    rows = [json.dumps({"id": 1, "text": text}, ensure_ascii=is_ascii) for text in texts]
    return "\n".join(rows).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tables")


def raws(texts):
    return [text.encode() for text in texts]


@pytest.mark.parametrize("suffix", WRITERS)
@given(TEXTS, st.booleans(), st.booleans())
def test_rows_of_json_come_byte_for_byte(folder, suffix, texts, is_ascii, has_last_break):
    path = folder / f"t{suffix}"
    path.write_bytes(WRITERS[suffix](json_lines(texts, is_ascii=is_ascii) + b"\n" * has_last_break))
    documents = list(FileData(str(path)))
    assert [d.raw for d in documents] == raws(texts)
    assert [d.name for d in documents] == [f"{path}:{i}" for i in range(1, len(texts) + 1)]
    assert documents[-1].offset == path.stat().st_size


@given(TEXTS, st.sampled_from(["string", "large_string", "dictionary"]), st.integers(1, 4))
def test_rows_of_parquet_come_byte_for_byte(folder, texts, kind, group):
    path = folder / "t.parquet"
    of = {"string": pa.string(), "large_string": pa.large_string(),
          "dictionary": pa.dictionary(pa.int32(), pa.string())}[kind]  # fmt: skip
    column = pa.array(texts, pa.string()).cast(of)
    parquet.write_table(pa.table({"id": column, "text": column}), path, row_group_size=group)
    with patch("eval.data.parquet.ROWS", 3):
        data = FileData(str(path))
        documents = list(data)
    assert [d.raw for d in documents] == raws(texts)
    assert [d.name for d in documents] == [f"{path}:{i}" for i in range(1, len(texts) + 1)]
    offsets = [d.offset for d in documents]
    assert offsets == sorted(offsets)
    assert offsets[-1] == data.size == path.stat().st_size


def test_a_compressed_file_may_hold_several_streams(tmp_path):
    line = json_lines(["a" * 100]) + b"\n"
    for suffix, compress in WRITERS.items():
        path = tmp_path / f"t{suffix}"
        path.write_bytes(compress(line) + compress(line * 2))
        assert len(list(open_data(path))) == 3


def test_json_lines_are_read_in_constant_memory(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress((json_lines(["word " * 2000]) + b"\n") * 100, 1) * 100)
    tracemalloc.start()
    total = sum(len(document.raw) for document in open_data(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 100_000_000
    assert peak < 4_000_000


def test_parquet_is_read_in_constant_memory(tmp_path):
    path = tmp_path / "t.parquet"
    text = [f"{i:09}" * 2000 for i in range(4000)]  # 72 MB, all in one group of rows
    parquet.write_table(pa.table({"text": text}), path, compression="none", write_batch_size=64)
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() for _ in open_data(path))
    assert peak - before < 24_000_000


def write(path, content):
    path.write_bytes(content)
    return path


NOT_A_TABLE = "; correct it, or pass --format text if it is no table"
SKIP_IT = "; remove the row, name another column with --column, or pass --on-bad-row skip"
BAD_ROWS = {
    "broken": (
        b'{"text": "a"}\n{"text": "b"',
        "row must be JSON in UTF-8, got {p}:2 (Expecting ',' delimiter)" + NOT_A_TABLE,
    ),
    "not UTF-8": (
        b'{"text": "\xff"}',
        "row must be JSON in UTF-8, got {p}:1 ('utf-8' codec can't decode byte 0xff in position "
        "10: invalid start byte)" + NOT_A_TABLE,
    ),
    "too deep": (
        b"[" * 100_000,
        "row must be JSON in UTF-8, got {p}:1 (maximum recursion depth exceeded while decoding a "
        "JSON array from a unicode string)" + NOT_A_TABLE,
    ),
    "no object": (
        b'{"text": "a"}\n["b"]\n',
        'row must be a JSON object, got an array in {p}:2; write it as {{"text": ...}}',
    ),
    "no column": (
        b'{"url": "a", "content": "b"}',
        "row must have column text, got url, content in {p}:1; name the column of the text with "
        "--column",
    ),
    "no columns": (
        b"{}",
        "row must have column text, got none in {p}:1; name the column of the text with --column",
    ),
    "null": (
        b'{"text": "a"}\n{"text": null}',
        "column text must hold a string, got null in {p}:2" + SKIP_IT,
    ),
    "number": (
        b'{"text": 1.5}',
        "column text must hold a string, got a number in {p}:1" + SKIP_IT,
    ),
    "surrogate": (
        b'{"text": "a\\ud800"}',
        "text must be Unicode, got the lone surrogate U+D800 at character 1 in {p}:1; correct it",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_refused_rows(tmp_path, name):
    content, text = BAD_ROWS[name]
    path = write(tmp_path / "t.jsonl", content)
    with pytest.raises(ValueError) as error:
        list(open_data(path))
    assert str(error.value) == text.format(p=path)


DAMAGE = {
    "cut short": lambda raw: raw[: len(raw) // 2],
    "without its end": lambda raw: raw[:-1],
    "flipped": lambda raw: raw[:20] + bytes([raw[20] ^ 255]) + raw[21:],
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for k in COMPRESSORS for n in DAMAGE if (k, n) != ("lz4", "flipped")],  # has no sum
)
def test_damaged_compressed_files_are_refused(tmp_path, kind, name):
    content = json_lines([str(i) * 50 for i in range(1000)])
    path = write(tmp_path / "t.jsonl", DAMAGE[name](COMPRESSORS[kind](content)))
    seen = []
    with pytest.raises(ValueError) as error:
        seen.extend(open_data(path))  # keeps what came before
    start = f"{path} must be a complete {kind} file, got an error after "
    n_bytes, why = str(error.value).removeprefix(start).split(" bytes of its content ")
    assert sum(len(d.raw) for d in seen) <= int(n_bytes) <= len(content)
    assert why == f"({error.value.__cause__}); download or compress it again"


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_damaged_compressed_files_leave_no_memory_behind(tmp_path, kind):
    raw = COMPRESSORS[kind](json_lines([str(i) * 50 for i in range(1000)]))
    path = write(tmp_path / "t.jsonl", raw[:-1])

    def read(times):
        for _ in range(times):
            with pytest.raises(ValueError):
                list(open_data(path))

    read(2)
    tracemalloc.start()
    try:
        read(30)
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 300_000


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_row_that_is_too_long_is_refused_before_it_is_held(tmp_path, suffix):
    content = json_lines(["a"]) + b"\n" + json_lines(["b" * 10_000_000])
    path = write(tmp_path / f"t{suffix}", WRITERS[suffix](content))
    tracemalloc.start()
    with (
        pytest.raises(ValueError) as error,
        patch.multiple("eval.data.columns", MAX_ROW=1_000_000),
        patch("eval.data.jsonl.MAX_ROW", 1_000_000),
    ):
        list(open_data(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(error.value) == (
        f"row must have at most 1000000 bytes, got more in {path}:2; split the document"
    )
    assert peak < (16_000_000 if suffix.endswith("xz") else 4_000_000)  # its dictionary: 8 MiB


def test_a_window_beyond_128_mib_is_refused(tmp_path):
    params = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    press = zstandard.ZstdCompressor(compression_params=params).compressobj()
    path = write(tmp_path / "t.jsonl.zst", press.compress(json_lines(["a"])) + press.flush())
    with pytest.raises(ValueError, match=f"^{path} must be a complete zstd file, got "):
        list(open_data(path))


def table(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


BAD_TABLES = {
    "no column": (
        lambda p: table(p, url=["a"], content=["b"]),
        "data must have column text, got url, content in {p}; name the column of the text with "
        "--column",
    ),
    "numbers": (
        lambda p: table(p, text=[1, 2]),
        "column text must hold strings, got int64 in {p}; name the column of the text with "
        "--column",
    ),
    "bytes": (
        lambda p: table(p, text=[b"a"]),
        "column text must hold strings, got binary in {p}; name the column of the text with "
        "--column",
    ),
    "lists": (
        lambda p: table(p, text=[["a"]]),
        "column text must hold strings, got list<element: string> in {p}; name the column of the "
        "text with --column",
    ),
    "null": (
        lambda p: table(p, text=["a", None]),
        "column text must hold a string, got null in {p}:2" + SKIP_IT,
    ),
    "empty file": (
        lambda p: p.touch(),
        "{p} must be a complete Parquet file, got a damaged one; download or write it again",
    ),
    "cut short": (
        lambda p: write(p, table(p, text=["a"]).read_bytes()[:-3]),
        "{p} must be a complete Parquet file, got a damaged one; download or write it again",
    ),
    "damaged inside": (
        lambda p: write(p, b"PAR1" + bytes(60) + table(p, text=["a" * 99]).read_bytes()[64:]),
        "{p} must be a complete Parquet file, got a damaged one; download or write it again",
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_refused_tables(tmp_path, name):
    make, text = BAD_TABLES[name]
    path = tmp_path / "t.parquet"
    make(path)
    with pytest.raises(ValueError) as error:
        list(open_data(path))
    assert str(error.value) == text.format(p=path)


def test_a_cell_that_is_too_long_is_refused(tmp_path):
    path = table(tmp_path / "t.parquet", text=["a", "b" * 101])
    with (
        pytest.raises(ValueError) as error,
        patch("eval.data.arrow_columns.MAX_ROW", 100),
        patch("eval.data.columns.MAX_ROW", 100),
    ):
        list(open_data(path))
    assert str(error.value) == (
        f"row must have at most 100 bytes, got 101 in {path}:2; split the document"
    )
