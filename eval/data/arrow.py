"""Arrow: the cells of a column of an Arrow or Feather file, or of a stream of Arrow batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from eval.data.arrow_columns import Cell, cells, file_of, find_column
from eval.data.formats import ARROW_FILE

END = 8  # bytes of the mark at the end of a stream


def open_arrow_file(path: str, column: str, name: str) -> Iterator[tuple[Cell, int]]:
    """(cell, share of the file's bytes so far) of each row of a file; the column is checked first.

    The errors are those of pyarrow, and ColumnError.
    """
    import pyarrow

    size = Path(path).stat().st_size
    source = file_of(path, pyarrow.memory_map)
    if source.read(len(ARROW_FILE)) == ARROW_FILE:
        file = pyarrow.ipc.open_file(source)
        names = find_column(file.schema, column, name)
        return file_cells(file, names, size)
    source.seek(0)
    reader = pyarrow.ipc.open_stream(source)
    names = find_column(reader.schema, column, name)
    # After the last batch the mark of the end follows.
    return ((cell, source.tell() + END) for batch in reader for cell in cells(batch, names))


def file_cells(file: Any, names: list[str], size: int) -> Iterator[tuple[Cell, int]]:
    """The cells of the batches of an Arrow file of `size` bytes."""
    n_batches = file.num_record_batches
    for i in range(n_batches):
        batch = file.get_batch(i)
        for n_read, cell in enumerate(cells(batch, names), 1):
            yield cell, int(size * (i + n_read / batch.num_rows) / n_batches)


def open_arrow_stream(stream: BinaryIO, column: str, name: str) -> Iterator[tuple[Cell, int]]:
    """(cell, 0) of each row of a stream; the column is checked first."""
    import pyarrow

    reader = pyarrow.ipc.open_stream(stream)
    names = find_column(reader.schema, column, name)
    return ((cell, 0) for batch in reader for cell in cells(batch, names))
