"""Hugging Face data sets, from a folder or the Hub: one document per row."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.data.document import Document
from eval.data.parquet import ROWS, check_column, texts
from eval.data.text import row_documents

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

    Raises
    ------
    ValueError
        If the column is missing. While iterating, if a cell is null or too long; the error names
        the row.
    """

    def __init__(self, name: str, data_set: Any, column: str) -> None:
        self.name = name
        self._rows = data_set.with_format("arrow")
        self._column = column
        self.size: int | None = getattr(data_set, "num_rows", None)
        first = next(self._batches(), None)
        if first is not None:
            check_column(first.schema, column, name)

    def __iter__(self) -> Iterator[Document]:
        arrays = (chunk for batch in self._batches() for chunk in batch.column(self._column).chunks)
        for row, raw in enumerate(texts(arrays, self._column, self.name), 1):
            yield from row_documents(f"{self.name}:{row}", raw, row)

    def _batches(self) -> Iterator[Any]:
        with readable(self.name):
            yield from self._rows.iter(batch_size=ROWS)


def open_folder(path: str, column: str, split: str | None) -> DataSet:
    """The data set of a folder: saved by ``save_to_disk``, or a set of data files.

    Raises
    ------
    ValueError
        If the folder holds no data set, or the data set lacks `split` or `column`.
    """
    folder = Path(path)
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(one.parent.name for one in folder.glob("*/state.json"))
        return open_saved(str(folder / choose(splits, split, path)), column)
    if (folder / "state.json").is_file():
        refuse_split(split, path)
        return open_saved(path, column)
    return open_streaming(path, None, column, split)


def open_saved(path: str, column: str) -> DataSet:
    """One saved split, memory-mapped."""
    import datasets

    with readable(path):
        data_set = datasets.load_from_disk(path)
    return DataSet(path, data_set, column)


def open_streaming(name: str, config: str | None, column: str, split: str | None) -> DataSet:
    """The data set of a folder or the Hub, streamed row by row without a copy on disk."""
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
    chosen = choose([str(one) for one in builder.config.data_files], split, shown)
    with readable(f"{shown}/{chosen}"):
        data_set = builder.as_streaming_dataset(split=chosen)
    return DataSet(f"{shown}/{chosen}", data_set, column)


def choose(splits: Sequence[str], split: str | None, name: str) -> str:
    """The requested split, or the only one; the ValueError lists the splits."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        raise ValueError(
            f"split must be one of {', '.join(splits) or 'the saved ones'}, got {split} for "
            f"{name}; choose one with --split"
        )
    return split


def refuse_split(split: str | None, name: str) -> None:
    """Raise ValueError if a split is requested of data without splits."""
    if split is not None:
        raise ValueError(
            f"split applies to data sets with splits, got {split} for {name}, which has none; "
            "leave --split out"
        )


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
