"""Columns: the text of a row, by the name of its column, in JSON and in Arrow tables."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_ROW = 1 << 26  # bytes, 64 MiB: longer rows are refused
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


def find_column(schema: Any, column: str, name: str) -> list[str]:
    """The names that lead to a column of strings in an Arrow schema, the outermost first.

    Raises
    ------
    ValueError
        If there is no such column, or several, or it holds no strings.
    """
    fields = list(schema)
    path = path_to(fields, column)
    if path is None:
        raise ValueError(
            f"data must have column {column}, got {', '.join(schema.names)} in {name}; {NAME_IT}"
        )
    if schema.names.count(path[0]) > 1:
        raise ValueError(
            f"data must have column {path[0]} once, got it {schema.names.count(path[0])} times in "
            f"{name}; rename the others"
        )
    kind = None
    for key in path:
        field = next(field for field in fields if field.name == key)
        kind, fields = field.type, fields_of(field.type)
    check_strings(kind, column, name)
    return path


def path_to(fields: Sequence[Any], column: str) -> list[str] | None:
    """The names that lead to a column in nested Arrow fields; None if it is missing."""
    kinds = {field.name: field.type for field in fields}
    if column in kinds:
        return [column]
    for outer, inner in splits(column):
        if outer in kinds and (rest := path_to(fields_of(kinds[outer]), inner)):
            return [outer, *rest]
    return None


def fields_of(kind: Any) -> list[Any]:
    """The fields of an Arrow struct type; none of any other type."""
    from pyarrow import types

    return [kind.field(i) for i in range(kind.num_fields)] if types.is_struct(kind) else []


def check_strings(kind: Any, column: str, name: str) -> None:
    """Raise ValueError unless the Arrow type is a string type."""
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    are = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    if not any(is_kind(plain) for is_kind in are):  # of nulls alone: each is a bad row
        raise ValueError(f"column {column} must hold strings, got {kind} in {name}; {NAME_IT}")


def cells(table: Any, path: Sequence[str]) -> Iterator[bytes | None]:
    """The bytes of each cell of a column of an Arrow table or batch, without decoding."""
    import pyarrow
    from pyarrow import compute

    array = table.column(path[0])
    for key in path[1:]:
        array = compute.struct_field(array, key)
    for chunk in array.chunks if isinstance(array, pyarrow.ChunkedArray) else [array]:
        if pyarrow.types.is_dictionary(chunk.type):
            chunk = chunk.cast(chunk.type.value_type)
        yield from chunk.cast(pyarrow.large_binary()).to_pylist()


def checked_cell(raw: bytes | None, column: str, name: str) -> bytes | ValueError:
    """The cell, or the error if it is null or too long; `name` is that of the row."""
    if raw is None:
        return no_string(raw, column, name)
    return raw if len(raw) <= MAX_ROW else too_long(name, len(raw))


def no_string(value: object, column: str, name: str) -> ValueError:
    """The error of a row whose column holds something other than a string."""
    return ValueError(
        f"column {column} must hold a string, got {KINDS[type(value)]} in {name}; remove the row, "
        "name another column with --column, or pass --on-bad-row skip"
    )


def too_long(name: str, n_bytes: int | None = None) -> ValueError:
    """The error of a row of more than `MAX_ROW` bytes."""
    got = "more" if n_bytes is None else n_bytes
    return ValueError(
        f"row must have at most {MAX_ROW} bytes, got {got} in {name}; split the document"
    )
