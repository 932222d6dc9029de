"""ParquetFile: one document per row, read in small batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.data.document import Document
from eval.data.jsonl import MAX_ROW
from eval.data.text import row_documents

ROWS = 64  # of a batch
BUFFER = 1 << 16  # bytes of a read; without it whole row groups are read (260 MB against 96)


class ParquetFile:
    """One column of strings as documents, in row order.

    Parameters
    ----------
    path : str
        A ``.parquet`` file.
    column : str
        The column of the text.

    Raises
    ------
    ValueError
        If the file is damaged or lacks the column. While iterating, if a cell is null or longer
        than 64 MiB; the error names the row.
    """

    def __init__(self, path: str, column: str) -> None:
        self._column = column
        self.name = path
        self.size: int | None = Path(path).stat().st_size
        with self._open() as file:
            check_column(file.schema_arrow, column, path)

    def __iter__(self) -> Iterator[Document]:
        with self._open() as file:
            n_rows, size = file.metadata.num_rows, self.size or 0
            batches = (
                batch.column(0)
                for batch in file.iter_batches(ROWS, columns=[self._column], use_threads=False)
            )
            for row, raw in enumerate(texts(batches, self._column, self.name), 1):
                yield from row_documents(f"{self.name}:{row}", raw, size * row // n_rows)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.name, buffer_size=BUFFER, pre_buffer=False) as file:
                yield file
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(
                f"{self.name} must be a complete Parquet file, got a damaged one; download or "
                "write it again"
            ) from error


def check_column(schema: Any, column: str, name: str) -> None:
    """Raise ValueError unless the Arrow schema has this column, and it holds strings."""
    if column not in schema.names:
        raise ValueError(
            f"data must have column {column}, got {', '.join(schema.names)} in {name}; "
            "name the column of the text with --column"
        )
    check_strings(schema.field(column).type, column, name)


def check_strings(kind: Any, column: str, name: str) -> None:
    """Raise ValueError unless the Arrow type is a string type."""
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(plain) or types.is_large_string(plain) or types.is_string_view(plain)):
        raise ValueError(
            f"column {column} must hold strings, got {kind} in {name}; "
            "name the column of the text with --column"
        )


def texts(arrays: Iterable[Any], column: str, name: str) -> Iterator[bytes]:
    """UTF-8 bytes of each cell of Arrow string arrays; the ValueError names the row."""
    import pyarrow

    row = 0
    for array in arrays:
        check_strings(array.type, column, name)
        if pyarrow.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        for raw in array.cast(pyarrow.large_binary()).to_pylist():  # without decoding
            row += 1
            if raw is None:
                raise ValueError(
                    f"column {column} must hold a string, got null in {name}:{row}; remove "
                    "the row, or name another column with --column"
                )
            if len(raw) > MAX_ROW:
                raise ValueError(
                    f"row must have at most {MAX_ROW} bytes, got {len(raw)} in {name}:{row}; "
                    "split the document"
                )
            yield raw
