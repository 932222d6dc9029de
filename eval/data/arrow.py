"""Arrow: one document per row of an Arrow or Feather file, or of a stream of Arrow batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.data.columns import cells, checked_cell, find_column
from eval.data.document import Document
from eval.data.formats import ARROW_FILE
from eval.data.source import Content, path_of
from eval.data.text import row_documents

ROWS = 64  # of a slice: the cells of no more are held as Python objects


def read_arrow(content: Content, column: str) -> Iterator[Document]:
    """One column of strings as documents, in row order.

    Raises
    ------
    ValueError
        If the data is damaged, lacks the column, or must be read in any order and cannot be.
    """
    import pyarrow

    with readable(content.name, "complete Arrow data"):
        if content.head.startswith(ARROW_FILE):
            path = path_of(content, "Arrow file")
            file = pyarrow.ipc.open_file(pyarrow.memory_map(path))
            names = find_column(file.schema, column, content.name)
            return documents(file_slices(file, path), names, content.name, column)
        stream = pyarrow.ipc.open_stream(content.stream)
        names = find_column(stream.schema, column, content.name)
        parts = ((part, content.position()) for batch in stream for part in slices(batch))
        return documents(parts, names, content.name, column)


def slices(batch: Any) -> Iterator[Any]:
    """A batch in parts of up to `ROWS` rows."""
    return (batch.slice(start, ROWS) for start in range(0, batch.num_rows, ROWS))


def file_slices(file: Any, path: str) -> Iterator[tuple[Any, int]]:
    """Slices of the batches of an Arrow file, each with the share of the file's bytes so far."""
    size, n_batches = Path(path).stat().st_size, file.num_record_batches
    for i in range(n_batches):
        batch, n_read = file.get_batch(i), 0
        for part in slices(batch):
            n_read += part.num_rows
            yield part, int(size * (i + n_read / batch.num_rows) / n_batches)


def documents(
    parts: Iterable[tuple[Any, int]], path: list[str], name: str, column: str
) -> Iterator[Document]:
    """The documents of slices of batches, each with its offset."""
    number = 0
    with readable(name, "complete Arrow data"):
        for part, offset in parts:
            for raw in cells(part, path):
                number += 1
                cell = checked_cell(raw, column, f"{name}:{number}")
                yield from row_documents(f"{name}:{number}", cell, offset)


@contextmanager
def readable(name: str, what: str) -> Iterator[None]:
    """Turn the errors of pyarrow into a ValueError: the file `name` must be `what`."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(
            f"{name} must be {what}, got a damaged one; download or write it again"
        ) from error
