"""Columns: the text of a row, by the name of its column."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_ROW = 1 << 26  # bytes, 64 MiB: longer rows are refused
MAX_PARTS = 1 << 20  # values of a row of JSON, fields of a row of CSV: each takes up to 300 bytes
SEVERAL = object()  # stands for the value of a key that an object has several times
KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string",
         list: "an array", dict: "an object", object: "several values"}  # fmt: skip
NAME_IT = "name the column of the text with --column"


def splits(column: str) -> Iterator[tuple[str, str]]:
    """(outer, inner) names that ``outer.inner`` may mean, the longest outer name first."""
    end = len(column)
    while (end := column.rfind(".", 0, end)) > 0:
        yield column[:end], column[end + 1 :]


def text_of_row(row: Any, column: str, name: str) -> bytes | ValueError:
    """UTF-8 bytes of the string under `column` in a JSON object, or the error that names the row.

    ``meta.text`` is the key of this name, else the key ``text`` of the object under ``meta``.
    """
    if not isinstance(row, dict):
        return ValueError(
            f"row must be a JSON object, got {KINDS[type(row)]} in {name}; write it as "
            f'{{"{column}": ...}}'
        )
    found, text = look_up(row, column)
    if not found:
        return ValueError(
            f"row must have column {column}, got {', '.join(row)[:200] or 'none'} in {name}; "
            f"{NAME_IT}"
        )
    if not isinstance(text, str):
        return no_string(text, column, name)
    try:
        return encode(text, name)
    except ValueError as error:
        return error


def look_up(row: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """(whether the row has the column, its value); null or `SEVERAL` on the way is the value."""
    if column in row:
        return True, row[column]
    for outer, inner in splits(column):
        if outer in row:
            value = row[outer]
            if value is None or value is SEVERAL:
                return True, value
            if isinstance(value, dict) and (result := look_up(value, inner))[0]:
                return result
    return False, None


def encode(text: str, name: str) -> bytes:
    """The text in UTF-8; the ValueError names the first character that has no UTF-8."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode, got the lone surrogate U+{ord(text[error.start]):04X} at "
            f"character {error.start} in {name}; correct it"
        ) from error


def no_string(value: object, column: str, name: str) -> ValueError:
    """The error of a row whose column holds something other than a string."""
    return ValueError(
        f"column {column} must hold a string, got {KINDS[type(value)]} in {name}; remove the row, "
        "name another column with --column, or pass --on-bad-row skip"
    )


def too_many(what: str, name: str) -> ValueError:
    """The error of a row of more than `MAX_PARTS` values or fields."""
    return ValueError(
        f"row must have at most {MAX_PARTS} {what}, got more in {name}; leave the other columns out"
    )


def too_long(name: str, n_bytes: int | None = None) -> ValueError:
    """The error of a row of more than `MAX_ROW` bytes."""
    got = "more" if n_bytes is None else n_bytes
    return ValueError(
        f"row must have at most {MAX_ROW} bytes, got {got} in {name}; split the document"
    )
