"""DataSet: one document a row of a Hugging Face data set, from a folder or from the Hub."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.data.document import Document
from eval.data.parquet import ROWS, check_column, texts
from eval.data.text import row_documents

# Their readers keep the strings as they are. That of plain text drops line breaks, and a script
# of the data set's own is never run.
READERS = ("arrow", "csv", "json", "parquet")


class DataSet:
    """The strings of one column as documents, in the order of the rows.

    Parameters
    ----------
    name : str
        For errors: ``folder:17``.
    data_set : datasets.Dataset or datasets.IterableDataset
        Mapped into memory, or streamed.
    column : str
        Of strings.

    Raises
    ------
    ValueError
        If there is no such column. And in the loop, with its row, if a cell is null or too long.
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
        with whole(self.name):
            yield from self._rows.iter(batch_size=ROWS)


def open_folder(path: str, column: str, split: str | None) -> DataSet:
    """A data set that was saved by ``save_to_disk``, or a folder of files that make one up.

    Raises
    ------
    ValueError
        If there is none in the folder, or `split` or `column` is none of its own.
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
    """One saved split, mapped into memory."""
    import datasets

    with whole(path):
        data_set = datasets.load_from_disk(path)
    return DataSet(path, data_set, column)


def open_streaming(name: str, config: str | None, column: str, split: str | None) -> DataSet:
    """The files of a folder or of the Hub, row by row; nothing is kept on disk."""
    import datasets

    shown = name if config is None else f"{name}:{config}"
    with whole(shown):
        builder = datasets.load_dataset_builder(name, config)
    kind = type(builder).__module__.rpartition(".")[2]
    if kind not in READERS:
        raise ValueError(
            f"data set must be of {', '.join(READERS)} files, got {kind} in {shown}; "
            "name the files themselves, and each is read byte for byte"
        )
    chosen = choose([str(one) for one in builder.config.data_files], split, shown)
    with whole(f"{shown}/{chosen}"):
        data_set = builder.as_streaming_dataset(split=chosen)
    return DataSet(f"{shown}/{chosen}", data_set, column)


def choose(splits: Sequence[str], split: str | None, name: str) -> str:
    """The split that was asked for, or the only one; ValueError lists them."""
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        raise ValueError(
            f"split must be one of {', '.join(splits) or 'those saved'}, got {split} for {name}; "
            "choose one with --split"
        )
    return split


def refuse_split(split: str | None, name: str) -> None:
    """Raise ValueError if a split is asked for of what has none."""
    if split is not None:
        raise ValueError(
            f"split goes with a data set of several, got {split} for {name}, which has none; "
            "leave --split out"
        )


@contextmanager
def whole(name: str) -> Iterator[None]:
    """Whatever the readers of `datasets`, a damaged file or the network raise, as ValueError."""
    try:
        yield
    except Exception as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"data must be a whole Hugging Face data set, got {name} ({why}); "
            "check the name, or fetch it anew"
        ) from error
