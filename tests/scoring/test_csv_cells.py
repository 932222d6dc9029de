"""CSV cells: any bytes come back, and no cell runs in a spreadsheet or moves a terminal."""

import csv
import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import read_cell
from eval.scoring.csv_cells import name_bytes, to_cell
from eval.scoring.csv_writer import cell, csv_rows

PARTS = [
    b"\\", b"x", b"\\x", b"41", b"=", b"+", b"-", b"@", b"'", b'"', b",", b"\t", b"\n", b"\r",
    b"\0", b"\x1b[31m", b"\x7f", b"\xff", b"\xe2\x82", b"\xac", b"\xed\xa0\x80", b" ", b"a",
    "\u009b".encode(), "é".encode(), "\uff1d".encode(), "\U0001f600".encode(),
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PARTS), max_size=6).map(b"".join) | st.binary(max_size=20)


@given(TEXTS)
def test_any_bytes_come_back_from_the_file(raw):
    line = f"0,{cell(raw)},1\r\n"
    [[_, field, _]] = csv.reader(StringIO(line, newline=""), strict=True)
    assert read_cell(field) == raw


@given(TEXTS)
def test_no_cell_is_a_formula_or_controls_a_terminal(raw):
    text = to_cell(raw)
    assert not re.match("[=+\\-@\t\r\n\uff0b\uff0d\uff1d\uff20]", text)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", text)


@given(TEXTS, TEXTS)
def test_different_bytes_have_different_cells(first, second):
    assert (to_cell(first) == to_cell(second)) == (first == second)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        ("caf\u00e9 \u4e16".encode(), "caf\u00e9 \u4e16"),
        (b"=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        (b"@SUM(1)", "'@SUM(1)"),
        (b"'quoted'", "''quoted'"),
        (b"a=b", "a=b"),
        (b"C:\\x\\new", "C:\\x5cx\\new"),
        (b"\xe2\x82", "\\xe2\\x82"),
        (b"a\0b\x1bc", "a\\x00b\\x1bc"),
        (b"one\ntwo\r\n", "one\ntwo\r\n"),
        (b"", ""),
    ],
)
def test_cells(raw, text):
    assert to_cell(raw) == text
    assert read_cell(text) == raw


def test_names_of_any_kind_have_a_cell():
    path = b"caf\xe9 =.txt".decode("utf-8", "surrogateescape")
    assert read_cell(to_cell(name_bytes(path))) == b"caf\xe9 =.txt"
    assert to_cell(name_bytes("\ud800")) == "\\xed\\xa0\\x80"
    assert csv_rows([[to_cell(name_bytes("-1,2.txt"))]]) == '"\'-1,2.txt"\r\n'
