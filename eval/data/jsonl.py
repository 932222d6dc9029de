"""JSON lines: one document per line, read in bounded memory."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO

from eval.data.columns import MAX_PARTS, MAX_ROW, SEVERAL, text_of_row, too_long, too_many
from eval.data.document import Document
from eval.data.formats import BOM
from eval.data.source import Content
from eval.data.text import row_documents

# A string, whose end may be cut, or a mark: each value stands after a mark, or is the first.
MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([,[{])', re.DOTALL)


def read_json_lines(content: Content, column: str) -> Iterator[Document]:
    """The strings under one key as documents in UTF-8, one per line; blank lines are left out.

    A line that is no JSON object, has no string under the key, or is longer than 64 MiB gives a
    document with a problem. The names have the numbers of the lines.
    """
    decoder = row_decoder(column)
    for number, line in enumerate(bounded_lines(content.stream), 1):
        name = f"{content.name}:{number}"
        row: bytes | ValueError
        if line is None:
            row = too_long(name)
        elif not (line := line.removeprefix(BOM).strip()):
            continue
        else:
            row = read_row(line, decoder, column, name)
        yield from row_documents(name, row, content.position())


def bounded_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """The lines of a stream with their ends; None for a line longer than `MAX_ROW` bytes."""
    while line := stream.readline(MAX_ROW + 1):
        if len(line) <= MAX_ROW:
            yield line
            continue
        yield None  # at once: the rest may be long
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)


def row_decoder(column: str) -> json.JSONDecoder:
    """A decoder of JSON; several values under the key of the column become `SEVERAL`."""
    keys = {column, *column.split(".")}

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        row = dict(pairs)
        if len(row) < len(pairs):
            names = [key for key, _ in pairs]
            row |= {key: SEVERAL for key in keys if names.count(key) > 1}
        return row

    return json.JSONDecoder(object_pairs_hook=unique)


def read_row(line: bytes, decoder: json.JSONDecoder, column: str, name: str) -> bytes | ValueError:
    """The text of a row of JSON, or the error."""
    try:
        text = line.decode("utf-8")
        if has_many_values(text):
            return too_many("values", name)
        row = decoder.decode(text)
    except (ValueError, RecursionError) as error:
        return not_json(name, error)
    return text_of_row(row, column, name)


def has_many_values(text: str) -> bool:
    """Whether JSON, or its beginning, has more than `MAX_PARTS` values, by its punctuation."""
    if len(text) <= MAX_PARTS or sum(map(text.count, ",[{")) <= MAX_PARTS:
        return False
    marks = (found for found in MARK.finditer(text) if found.lastindex)
    return next(islice(marks, MAX_PARTS, None), None) is not None


def not_json(name: str, why: Exception | str) -> ValueError:
    """The error of a row that is not JSON in UTF-8."""
    why = str(why).partition(": line ")[0]  # a row is one line
    return ValueError(
        f"row must be JSON in UTF-8, got {name} ({why}); correct it, or pass --format text if it "
        "is no table"
    )
