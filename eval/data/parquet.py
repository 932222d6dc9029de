"""Parquet: the cells of a column, read in small batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.data.arrow_columns import LONG, ROWS, Cell, cells, file_of, find_column

BUFFER = 1 << 16  # bytes of a read; without it whole row groups are read (260 MB against 96)


def open_parquet(path: str, column: str, name: str) -> Iterator[tuple[Cell, int]]:
    """(cell, share of the file's bytes so far) of each row; the column is checked first.

    The errors are those of pyarrow, and ColumnError. Checksums of pages are checked where the file
    has them.
    """
    import pyarrow
    from pyarrow import parquet

    source = file_of(path, pyarrow.OSFile)
    file = parquet.ParquetFile(
        source, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True
    )
    names = find_column(file.schema_arrow, column, name)
    return parquet_cells(file, names, Path(path).stat().st_size)


def parquet_cells(file: Any, names: list[str], size: int) -> Iterator[tuple[Cell, int]]:
    """The cells of the column that `names` lead to, in a file of `size` bytes."""
    n_rows, n_read = file.metadata.num_rows, 0
    column = ".".join(names)
    batches = file.iter_batches(rows_at_once(file, column), columns=[column], use_threads=False)
    for batch in batches:
        for cell in cells(batch, names):
            n_read += 1
            yield cell, size * n_read // n_rows
    if n_read != n_rows:
        raise EOFError(f"{n_rows} rows are promised, {n_read} are there")


def rows_at_once(file: Any, column: str) -> int:
    """Rows of a batch: one if a cell of the column has more than 1 MiB, as the metadata tell."""
    for i in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            is_long = chunk.total_uncompressed_size > LONG * max(1, group.num_rows)
            if is_long and chunk.path_in_schema == column:
                return 1
    return ROWS
