"""CSV and TSV: one document per row, quoted line breaks included, read in bounded memory."""

import csv
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from eval.data.columns import MAX_PARTS, MAX_ROW, NAME_IT, too_long, too_many
from eval.data.document import Document
from eval.data.formats import BOM
from eval.data.jsonl import bounded_lines
from eval.data.source import Content
from eval.data.text import row_documents


def read_csv(content: Content, column: str, delimiter: str = ",") -> Iterator[Document]:
    """The fields of one column as documents; the first row names the columns.

    A row with more or fewer fields than columns, or that is not UTF-8, gives a document with a
    problem. The names have the numbers of the rows, the first after the names of the columns being
    1.

    Raises
    ------
    ValueError
        If the column is missing, or while iterating if a quotation mark is never closed: where the
        next row begins is then unknown.
    """
    rows = read_rows(content, delimiter)
    _, names = next(rows, (0, []))
    if names.count(column) != 1:
        got = f"{names.count(column)} of them" if column in names else ", ".join(names)[:200]
        raise ValueError(
            f"data must have column {column} once, got {got or 'none'} in {content.name}; {NAME_IT}"
        )
    return documents(rows, content, column, names)


def documents(
    rows: Iterator[tuple[int, list[str]]], content: Content, column: str, names: list[str]
) -> Iterator[Document]:
    """The documents of the rows after the first."""
    index = names.index(column)
    for number, row in rows:
        name = f"{content.name}:{number}"
        text = text_of_fields(row, index, len(names), name)
        yield from row_documents(name, text, content.position())


def text_of_fields(row: list[str], index: int, n_fields: int, name: str) -> bytes | ValueError:
    """The field at `index` in UTF-8, or the error that names the row."""
    if len(row) != n_fields:
        return ValueError(
            f"row must have {n_fields} fields, one for each column, got {len(row)} in {name}; "
            "quote the text, or correct the row"
        )
    try:
        text = row[index].encode("utf-8")
    except UnicodeEncodeError as error:
        byte = ord(row[index][error.start]) & 0xFF  # kept as a lone surrogate
        return ValueError(
            f"text must be UTF-8, got byte 0x{byte:02x} after {error.start} characters in "
            f"{name}; convert the file"
        )
    return text if len(text) <= MAX_ROW else too_long(name, len(text))


def read_rows(content: Content, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(number, fields) of each row from 0; a byte that is not UTF-8 is a lone surrogate."""
    csv.field_size_limit(max(MAX_ROW, csv.field_size_limit()))  # of the process; never lowered
    lines = RowLines(content, delimiter)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            lines.begin_row()
            if row:  # a blank line has no fields
                yield lines.number, row
                lines.number += 1
    except csv.Error as error:
        raise ValueError(
            f"row must be CSV, got {content.name}:{lines.number} ({error}); quote the text, and "
            "double the quotation marks in it"
        ) from error


class RowLines:
    """The lines of the content as text, without the byte order mark, for a reader of CSV.

    Attributes
    ----------
    number : int
        That of the row that is read, from 0.

    Raises
    ------
    ValueError
        While iterating, if a row has too many bytes or fields: where the next one begins is then
        unknown.
    """

    def __init__(self, content: Content, delimiter: str) -> None:
        self._content = content
        # A quoted field, whose end may be in a later line, with what is before it; or a delimiter.
        self._mark = re.compile(f'(^|{delimiter})"(?:[^"]++|"")*+"?|{delimiter}')
        self.number = 0
        self.begin_row()

    def begin_row(self) -> None:
        """Say that the lines so far were whole rows."""
        self._n_bytes = self._n_fields = 0

    def __iter__(self) -> Iterator[str]:
        name, stream = self._content.name, self._content.stream
        number, lines = 0, bounded_lines(stream)
        while True:
            is_open = self._n_bytes > 0  # only a quoted field makes a row go on
            line = (quoted_lines(stream) if is_open else b"") or next(lines, b"")
            number += 1 if line is None else max(1, line.count(b"\n"))
            if line is None:
                raise too_long(f"line {number} of {name}")
            if not line:
                return
            if number == 1:
                line = line.removeprefix(BOM)
            self._n_bytes += len(line)
            if self._n_bytes > MAX_ROW:
                raise too_long(f"{name}:{self.number}")
            text = line.decode("utf-8", "surrogateescape")
            if self._n_bytes > MAX_PARTS:  # a shorter row cannot have too many
                self._n_fields += self._count(text, is_open=is_open)
            if self._n_fields > MAX_PARTS:
                raise too_many("fields", f"{name}:{self.number}")
            yield text

    def _count(self, line: str, *, is_open: bool) -> int:
        """Delimiters outside quoted fields; `is_open` if the line begins in one."""
        if is_open and '"' not in line:
            return 0
        marks = self._mark.finditer(f'"{line}' if is_open else line)
        return sum(1 for mark in islice(marks, MAX_PARTS + 2) if mark[1] != "")


def quoted_lines(stream: BinaryIO) -> bytes:
    """Whole lines that a quoted field goes on with, as many as are buffered; line by line is slow.

    Nothing if the field ends in the next line.
    """
    ahead: bytes = stream.peek(1)  # type: ignore[attr-defined]
    return stream.read(ahead.partition(b'"')[0].rfind(b"\n") + 1)
