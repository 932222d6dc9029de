"""FileData: the documents of one file or pipe, in the format that it has."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from eval.config import AUTO, BYTES, TABLES, TEXT
from eval.data.csv_rows import read_csv
from eval.data.document import Document
from eval.data.formats import choose_format
from eval.data.json_values import read_json
from eval.data.jsonl import read_json_lines
from eval.data.source import Content, Source
from eval.data.table_reader import read_arrow, read_parquet
from eval.data.text import read_text

COLUMN = "text"  # of a table, where none is named
# Each checks what stands before the first row, and returns an iterator over the documents.
READERS: Mapping[str, Callable[[Content, str], Iterator[Document]]] = {
    "jsonl": read_json_lines,
    "json": read_json,
    "csv": read_csv,
    "tsv": partial(read_csv, delimiter="\t"),
    "parquet": read_parquet,
    "arrow": read_arrow,
}


class FileData:
    """The documents of a file or a pipe.

    Parameters
    ----------
    path : str
        ``-`` is standard input.
    column : str, optional
        The column of the text in a table (``text``).
    option : str
        The format, or ``auto``: the content and the name of the file tell it.

    Attributes
    ----------
    format : str or None
        The format of a file; None for a pipe, which is not opened yet.

    Raises
    ------
    ValueError
        If the format is unknown or not what the name says, or the column is missing; of a pipe,
        while iterating. While iterating, if a file is damaged or a pipe is read a second time.
    """

    def __init__(self, path: str, column: str | None = None, option: str = AUTO) -> None:
        self._source = Source(path, as_stored=option == BYTES)
        self._column, self._option = column, option
        self.name, self.size = self._source.name, self._source.size
        self.format: str | None = None
        if self._source.is_file:
            with self._source.open() as content:
                self.format = choose_format(content, option)
                self._documents(content, self.format)

    def __iter__(self) -> Iterator[Document]:
        with self._source.open() as content:
            chosen = self.format
            if chosen is None:
                chosen = choose_format(content, self._option)
                refuse_column([chosen], self._column, self.name)
            yield from self._documents(content, chosen)

    def _documents(self, content: Content, chosen: str) -> Iterator[Document]:
        if chosen in (TEXT, BYTES):
            return read_text(content)
        return READERS[chosen](content, COLUMN if self._column is None else self._column)


class NoTableError(ValueError):
    """A column is requested of data without tables."""


def refuse_column(formats: list[str], column: str | None, name: str) -> None:
    """Raise NoTableError if a column is requested of data without tables."""
    if column is not None and not set(formats) & {*TABLES}:
        raise NoTableError(
            f"column applies to tables, got {column} for {name}, which has none; leave --column "
            "out, or say with --format what the table is"
        )
