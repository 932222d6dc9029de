"""Rows: nested columns, CSV and arrays of JSON, and what becomes of rows that cannot be read."""

import csv
import io
import json
import tracemalloc
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from eval.data.columns import splits
from eval.data.open_data import open_data

TEXTS = st.lists(st.text(max_size=20), min_size=1, max_size=8)
SKIP_IT = "; remove the row, name another column with --column, or pass --on-bad-row skip"


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raws(*arguments, **options):
    """The bytes of each document."""
    return [document.raw for document in open_data(*arguments, **options)]


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@given(TEXTS.filter(any), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), st.booleans())
def test_rows_of_csv_come_byte_for_byte(tmp_path_factory, name, texts, quoting, has_mark):
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter="\t" if name == "t.tsv" else ",", quoting=quoting)
    writer.writerows([["id", "text"], *enumerate(texts)])
    path = write(
        tmp_path_factory.getbasetemp() / name, b"\xef\xbb\xbf" * has_mark + sink.getvalue().encode()
    )
    documents = list(open_data(path, skip_empty=True))
    expected = [(i, text.encode()) for i, text in enumerate(texts, 1) if text]
    assert [(d.name, d.raw) for d in documents] == [(f"{path}:{i}", raw) for i, raw in expected]


@given(TEXTS.filter(any), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 9))
def test_arrays_of_json_come_byte_for_byte(tmp_path_factory, texts, indent, is_ascii, size):
    rows = [{"n": i, "text": text, "z": [1.5, {}]} for i, text in enumerate(texts)]
    path = tmp_path_factory.getbasetemp() / "t.json"
    dumped = json.dumps(rows, indent=indent, ensure_ascii=is_ascii)
    for content in (dumped, "\n\t".join(json.dumps(row, indent=2) for row in rows)):
        path.write_text(content, encoding="utf-8")
        with patch("eval.data.json_values.READ_SIZE", size):
            documents = list(open_data(path, skip_empty=True))
        expected = [(i, text.encode()) for i, text in enumerate(texts, 1) if text]
        assert [(d.name, d.raw) for d in documents] == [(f"{path}:{i}", raw) for i, raw in expected]


def test_an_array_is_read_in_constant_memory(inside):
    row = json.dumps({"text": "word " * 2000}) + ",\n"
    (inside / "t.json").write_text("[" + row * 2999 + row.rstrip(",\n") + "]")
    tracemalloc.start()
    total = sum(len(document.raw) for document in open_data("t.json"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 30_000_000
    assert peak < 4_000_000


def test_a_column_may_be_nested(inside):
    rows = [
        {"meta": {"text": "a", "more": {"text": "b"}}, "meta.text": "c"},
        {"meta": {"text": "d", "more": {"text": "e"}}, "meta.text": "f"},
    ]
    (inside / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = pa.Table.from_pylist(rows)
    parquet.write_table(table, inside / "t.parquet")
    with pa.ipc.new_file("t.arrow", table.schema) as file:
        file.write_table(table)
    for name in ("t.jsonl", "t.parquet", "t.arrow"):
        assert raws(name, column="meta.text") == [b"c", b"f"]  # the column of this very name
        assert raws(name, column="meta.more.text") == [b"b", b"e"]
        with pytest.raises(
            ValueError, match=r" must have column meta\.none, got meta, meta\.text in "
        ):
            raws(name, column="meta.none")
    (inside / "u.jsonl").write_text('{"meta": null}')
    with pytest.raises(ValueError) as error:
        raws("u.jsonl", column="meta.text")
    assert (
        str(error.value) == "column meta.text must hold a string, got null in u.jsonl:1" + SKIP_IT
    )


def test_every_way_to_read_a_dotted_name():
    assert list(splits("a.b.c")) == [("a.b", "c"), ("a", "b.c")]
    assert list(splits("a")) == list(splits(".a")) == []


BAD = {
    b"\xef\xbb\xbf": None,  # blank lines and marks are no rows
    b" \t\r": None,
    b'{"text": null}': "column text must hold a string, got null in t.jsonl:{}" + SKIP_IT,
    b'{"text": ["a"]}': "column text must hold a string, got an array in t.jsonl:{}" + SKIP_IT,
    b'{"text": "a", "text": "b"}': "column text must hold a string, got several values in "
    "t.jsonl:{}" + SKIP_IT,
    b'{"id": 1}': "row must have column text, got id in t.jsonl:{}; name the column of the text "
    "with --column",
    b'"a string"': 'row must be a JSON object, got a string in t.jsonl:{}; write it as {{"text": '
    "...}}",
    b'{"text": "cut': "row must be JSON in UTF-8, got t.jsonl:{} (Unterminated string starting "
    "at); correct it, or pass --format text if it is no table",
    b'{"text": "\\udc00"}': "text must be Unicode, got the lone surrogate U+DC00 at character 0 in "
    "t.jsonl:{}; correct it",
    b'{"text": "' + b"a" * 100 + b'"}': "row must have at most 99 bytes, got more in t.jsonl:{}; "
    "split the document",
}  # fmt: skip


@given(st.lists(st.sampled_from([b'{"text": "good"}', *BAD]), min_size=1))
def test_bad_rows_are_left_out_and_counted_or_refused(lines):
    with open("t.jsonl", "wb") as file:  # noqa: PTH123
        file.write(b"\r\n".join(lines))
    problems = [BAD[line].format(i) for i, line in enumerate(lines, 1) if BAD.get(line)]
    n_good = sum(line not in BAD for line in lines)
    with patch("eval.data.jsonl.MAX_ROW", 99), patch("eval.data.columns.MAX_ROW", 99):
        data = open_data("t.jsonl", on_bad_row="skip")
        if n_good:
            for _ in range(2):  # counted anew
                assert [d.raw for d in data] == [b"good"] * n_good
                assert data.skipped.count == len(problems)
                assert data.skipped.first == next(iter(problems), None)
        else:
            with pytest.raises(ValueError) as error:
                list(data)
            assert str(error.value) == (
                f"data must hold at least one good row, got {len(problems)} bad in t.jsonl, "
                f"the first: {problems[0]}"
                if problems
                else "data must hold at least one document, got none in t.jsonl; name other files"
            )
        if problems:
            with pytest.raises(ValueError) as error:
                raws("t.jsonl")
            assert str(error.value) == problems[0]


def test_an_empty_row_is_not_a_bad_one(inside):
    write(inside / "t.jsonl", b'{"text": "a"}\n{"text": null}\n{"text": ""}')
    with pytest.raises(ValueError, match=r"^document must hold at least one byte, "):
        raws("t.jsonl", on_bad_row="skip")
    assert raws("t.jsonl", on_bad_row="skip", skip_empty=True) == [b"a"]


OTHER = {
    "null in Parquet": (
        "t.parquet", lambda p: parquet.write_table(pa.table({"text": ["a", None]}), p), [b"a"],
        "column text must hold a string, got null in t.parquet:2" + SKIP_IT,
    ),
    "a field too many": (
        "t.csv", lambda p: p.write_bytes(b"id,text\n1,a\n2,b,c\n"), [b"a"],
        "row must have 2 fields, one for each column, got 3 in t.csv:2; quote the text, or "
        "correct the row",
    ),
    "not UTF-8 in CSV": (
        "t.csv", lambda p: p.write_bytes(b"text\n\na\nb\xe9\n"), [b"a"],
        "text must be UTF-8, got byte 0xe9 after 1 characters in t.csv:2; convert the file",
    ),
    "null in an array": (
        "t.json", lambda p: p.write_bytes(b'[{"text": "a"}, {"text": null}]'), [b"a"],
        "column text must hold a string, got null in t.json:2" + SKIP_IT,
    ),
    # Where the next row begins is not known.
    "a quotation mark too many": (
        "t.csv", lambda p: p.write_bytes(b'text\na\n"b\n'), None,
        "row must be CSV, got t.csv:2 (unexpected end of data); quote the text, and double the "
        "quotation marks in it",
    ),
    "an array that is cut": (
        "t.json", lambda p: p.write_bytes(b'[{"text": "a"}, {"text": "b'), None,
        "row must be JSON in UTF-8, got t.json:2 (Unterminated string starting at); correct it, or "
        "pass --format text if it is no table",
    ),
    "an array without end": (
        "t.json", lambda p: p.write_bytes(b'[{"text": "a"}'), None,
        "row must be JSON in UTF-8, got t.json:2 (Expecting ',' delimiter); correct it, or pass "
        "--format text if it is no table",
    ),
    "more after an array": (
        "t.json", lambda p: p.write_bytes(b'[{"text": "a"}] {"text": "b"}'), None,
        "row must be JSON in UTF-8, got t.json:2 (more after the end of the array); correct it, or "
        "pass --format text if it is no table",
    ),
    "a column twice": (
        "t.csv", lambda p: p.write_bytes(b"text,text\na,b\n"), None,
        "data must have column text once, got 2 of them in t.csv; name the column of the text with "
        "--column",
    ),
    "no column of CSV": (
        "t.csv", lambda p: p.write_bytes(b"the,cat\n"), None,
        "data must have column text once, got the, cat in t.csv; name the column of the text with "
        "--column",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER)
def test_bad_rows_of_other_tables(inside, case):
    name, make, good, text = OTHER[case]
    make(inside / name)
    for on_bad_row in ("error",) if good else ("error", "skip"):
        with pytest.raises(ValueError) as error:
            raws(name, on_bad_row=on_bad_row)
        assert str(error.value) == text
    if good:
        data = open_data(name, on_bad_row="skip")
        assert [d.raw for d in data] == good
        assert (data.skipped.count, data.skipped.first) == (1, text)


def test_what_becomes_of_bad_rows_is_named(inside):
    write(inside / "t.jsonl", b'{"text": "a"}')
    with pytest.raises(ValueError, match=r"^on_bad_row must be error or skip, got 'drop'"):
        open_data("t.jsonl", on_bad_row="drop")


def test_a_value_of_an_array_that_is_too_long_is_refused_before_it_is_held(inside):
    (inside / "t.json").write_text('[{"text": "a"}, {"text": "' + "b" * 10_000_000)
    tracemalloc.start()
    with (
        pytest.raises(ValueError) as error,
        patch("eval.data.json_values.MAX_ROW", 1_000_000),
        patch("eval.data.columns.MAX_ROW", 1_000_000),
    ):
        raws("t.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(error.value) == (
        "row must have at most 1000000 bytes, got more in t.json:2; split the document"
    )
    assert peak < 10_000_000


@given(st.lists(st.lists(st.sampled_from(['"', ",", "a\n", "\r\n", "é", "b" * 3000]), min_size=1,
                         max_size=40).map("".join), min_size=1, max_size=5))  # fmt: skip
def test_fields_of_many_lines_come_byte_for_byte(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "lines.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["n", "text"], *([i, text] for i, text in enumerate(texts))])
    found = []
    for document in open_data(path):
        found += [b""] * document.begins
        found[-1] += document.raw
    assert found == [text.encode() for text in texts]
