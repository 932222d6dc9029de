"""Parquet: one document per row, read in small batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.data.arrow import readable
from eval.data.columns import cells, checked_cell, find_column
from eval.data.document import Document
from eval.data.source import Content, path_of
from eval.data.text import row_documents

ROWS = 64  # of a batch
BUFFER = 1 << 16  # bytes of a read; without it whole row groups are read (260 MB against 96)


def read_parquet(content: Content, column: str) -> Iterator[Document]:
    """One column of strings as documents, in row order.

    Raises
    ------
    ValueError
        If the file is damaged, lacks the column, or is compressed as a whole or in a pipe.
    """
    path = path_of(content, "Parquet")
    with open_parquet(path) as file:
        names = find_column(file.schema_arrow, column, path)
    return documents(path, names, column)


def documents(path: str, names: list[str], column: str) -> Iterator[Document]:
    """The documents of the column that `names` lead to."""
    size = Path(path).stat().st_size
    with open_parquet(path) as file:
        n_rows, number = file.metadata.num_rows, 0
        for batch in file.iter_batches(ROWS, columns=[".".join(names)], use_threads=False):
            for raw in cells(batch, names):
                number += 1
                cell = checked_cell(raw, column, f"{path}:{number}")
                yield from row_documents(f"{path}:{number}", cell, size * number // n_rows)


@contextmanager
def open_parquet(path: str) -> Iterator[Any]:
    """The open file; the errors of pyarrow become a ValueError that names it."""
    from pyarrow import parquet

    with (
        readable(path, "a complete Parquet file"),
        parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file,
    ):
        yield file
