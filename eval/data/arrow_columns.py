"""Columns of Arrow tables: the bytes of each cell, from buffers that are checked first."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.data.columns import MAX_ROW, NAME_IT, no_string, splits, too_long

ROWS = 64  # of a slice: the cells of no more are held as Python objects
LONG = 1 << 20  # bytes of a cell: rows are held one by one if there are longer ones

Cell = Any  # bytes; None for null; the length of a cell of more than MAX_ROW bytes


class ColumnError(ValueError):
    """A table lacks the column, or it is not of strings; the text is for the user."""


def find_column(schema: Any, column: str, name: str) -> list[str]:
    """The names that lead to a column of strings in an Arrow schema, the outermost first.

    Raises
    ------
    ValueError
        A ColumnError, if there is no such column, or several, or it holds no strings.
    """
    fields = list(schema)
    path = path_to(fields, column)
    if path is None:
        raise ColumnError(
            f"data must have column {column}, got {', '.join(schema.names)} in {name}; {NAME_IT}"
        )
    if schema.names.count(path[0]) > 1:
        raise ColumnError(
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
    """Raise ColumnError unless the Arrow type is a string type."""
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    are = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    if not any(is_kind(plain) for is_kind in are):  # of nulls alone: each is a bad row
        raise ColumnError(f"column {column} must hold strings, got {kind} in {name}; {NAME_IT}")


def file_of(path: str, opener: Callable[[str], Any]) -> Any:
    """The file, opened by `opener` of pyarrow; by Python if its name is not UTF-8."""
    import pyarrow

    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return pyarrow.PythonFile(Path(path).open("rb"))
    return opener(path)


def cells(table: Any, path: Sequence[str]) -> Iterator[Cell]:
    """Each cell of a column of an Arrow table or batch, without decoding: bytes, None or a length.

    A library error if buffers are damaged: an offset beyond the text, an index beyond the
    dictionary. Nothing outside the buffers is read.
    """
    import pyarrow
    from pyarrow import compute

    table.validate()  # the lengths of the buffers; the values are checked for this column alone
    array = table.column(path[0])
    for key in path[1:]:
        array = compute.struct_field(array, key)
    for chunk in array.chunks if isinstance(array, pyarrow.ChunkedArray) else [array]:
        yield from cells_of(as_binary(chunk))


def as_binary(array: Any) -> Any:
    """The strings of an array as bytes, which need not be UTF-8; the buffers are shared."""
    import pyarrow

    if pyarrow.types.is_dictionary(array.type):
        values = as_binary(array.dictionary)
        array = pyarrow.DictionaryArray.from_arrays(array.indices, values)  # checks the indices
    else:
        binary = {
            pyarrow.string(): pyarrow.binary(),
            pyarrow.large_string(): pyarrow.large_binary(),
            pyarrow.string_view(): pyarrow.binary_view(),
        }
        array = array.view(binary.get(array.type, array.type))
    array.validate(full=True)
    return array


def cells_of(array: Any) -> Iterator[Cell]:
    """Each cell of an array of bytes, or of a dictionary of them."""
    import pyarrow
    from pyarrow import compute, types

    binary = pyarrow.large_binary()
    is_dictionary = types.is_dictionary(array.type)
    values = (array.dictionary if is_dictionary else array).cast(binary)
    longest = compute.max(compute.binary_length(values)).as_py() or 0
    step = ROWS if longest <= LONG else 1
    for start in range(0, len(array), step):
        part = array.slice(start, step)
        part = part.cast(array.type.value_type) if is_dictionary else part
        if step > 1:
            yield from part.cast(binary).to_pylist()
        elif (buffer := part.cast(binary)[0].as_buffer()) is None:
            yield None
        else:
            yield buffer.to_pybytes() if buffer.size <= MAX_ROW else buffer.size


def checked_cell(cell: Cell, column: str, name: str) -> bytes | ValueError:
    """The bytes of a cell, or the error if it is null or too long; `name` is that of the row."""
    if cell is None:
        return no_string(cell, column, name)
    if isinstance(cell, int):
        return too_long(name, cell)
    return bytes(cell) if len(cell) <= MAX_ROW else too_long(name, len(cell))
