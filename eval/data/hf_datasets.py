"""Hugging Face data sets, from the Hub or in memory: one document per row."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eval.data.arrow_columns import cells, checked_cell, find_column
from eval.data.base import Data
from eval.data.concatenated import concatenate
from eval.data.document import Document
from eval.data.splits import Rows, choose_rows, refuse_split
from eval.data.text import row_documents

ROWS = 64  # of a batch
# Formats whose readers keep strings unchanged. The reader of plain text drops line breaks, and
# loading scripts are never run.
READERS = ("arrow", "csv", "json", "parquet")


class DataSet:
    """One column of strings as documents, in row order.

    Parameters
    ----------
    name : str
        Used in error texts: ``folder:17``.
    data_set : datasets.Dataset or datasets.IterableDataset
        Memory-mapped or streamed.
    column : str
        The column of the text.
    rows : Rows, optional
        Default: all.

    Raises
    ------
    ValueError
        If the column is missing, or rows are made by a function when they are read.
    """

    def __init__(self, name: str, data_set: Any, column: str, rows: Rows | None = None) -> None:
        self.name, self._column = name, column
        if getattr(data_set, "format", {}).get("type") == "custom":
            raise ValueError(
                f"data set must hold its rows, got a transform that makes them in {name}; apply "
                "it with map, or remove it with reset_format"
            )
        self._first = 0
        if rows is not None and not rows.is_all:
            self.name, self._first = f"{name}{rows.slice}", rows.start
            data_set = take(data_set, rows)
        self._rows = data_set.with_format("arrow")
        self.size: int | None = getattr(data_set, "num_rows", None)
        if (first := next(self._batches(), None)) is not None:
            find_column(first.schema, column, name)

    def __iter__(self) -> Iterator[Document]:
        row = 0
        for batch in self._batches():
            # The batches of a stream may differ.
            for raw in cells(batch, find_column(batch.schema, self._column, self.name)):
                row += 1
                name = f"{self.name}:{self._first + row}"
                yield from row_documents(name, checked_cell(raw, self._column, name), row)

    def _batches(self) -> Iterator[Any]:
        with readable(self.name):
            yield from self._rows.iter(batch_size=ROWS)


def take(data_set: Any, rows: Rows) -> Any:
    """The rows of a data set of the library."""
    n_rows: int | None = getattr(data_set, "num_rows", None)
    if n_rows is None:
        return data_set.skip(rows.start).take(rows.stop - rows.start)
    return data_set.select(range(min(rows.start, n_rows), min(rows.stop, n_rows)))


def open_object(data_set: Any, column: str, split: str | None) -> Data:
    """The documents of a ``Dataset``, ``IterableDataset`` or a dictionary of them by split."""
    name = "data set"
    if isinstance(data_set, Mapping):
        return open_splits(data_set, column, split, name)
    if data_set.split is None:
        refuse_split(split, name)
        return DataSet(name, data_set, column)
    return open_splits({str(data_set.split): data_set}, column, split, name)


def open_splits(data_sets: Mapping[str, Any], column: str, split: str | None, name: str) -> Data:
    """The documents of the requested rows of data sets by split."""

    def count(one: str) -> int:
        n_rows: int | None = getattr(data_sets[one], "num_rows", None)
        if n_rows is None:
            raise ValueError(
                f"rows of a stream must be counted from its start, got {split} for {name}; name "
                f"them as in {one}[:100]"
            )
        return n_rows

    chosen = choose_rows([*map(str, data_sets)], split, name, count)
    return concatenate(
        [DataSet(f"{name}/{rows.split}", data_sets[rows.split], column, rows) for rows in chosen]
    )


def open_hub(name: str, config: str | None, column: str, split: str | None) -> Data:
    """The data set of a name on the Hub, streamed row by row without a copy on disk.

    Raises
    ------
    ValueError
        If it cannot be reached, is of another format, or lacks `split` or `column`.
    """
    import datasets

    shown = name if config is None else f"{name}:{config}"
    with readable(shown):
        builder = datasets.load_dataset_builder(name, config)
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in READERS:
        raise ValueError(
            f"data set must be of {', '.join(READERS)} files, got {kind} in {shown}; "
            "pass the files themselves, which are read byte for byte"
        )
    known = builder.info.splits or {}

    def count(one: str) -> int:
        if one not in known:
            raise ValueError(
                f"rows must be counted from the start where their number is not known, got "
                f"{split} for {shown}; name them as in {one}[:100]"
            )
        return int(known[one].num_examples)

    chosen = choose_rows([str(one) for one in builder.config.data_files], split, shown, count)
    parts = []
    for rows in chosen:
        with readable(f"{shown}/{rows.split}"):
            data_set = builder.as_streaming_dataset(split=rows.split)
        parts.append(DataSet(f"{shown}/{rows.split}", data_set, column, rows))
    return concatenate(parts)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn any error of the library `datasets`, a damaged file or the network into ValueError."""
    try:
        yield
    except Exception as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"data must be a readable Hugging Face data set, got {name} ({why}); "
            "check the name, or download it again"
        ) from error
