"""Splits of a data set, and slices of them: ``train[:100]``, ``train[10%:20%]``, ``train+test``."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eval.data.base import Data
from eval.data.document import Document

MAX_ROWS = 1 << 62  # where the number of rows is not needed


@dataclass(frozen=True)
class Rows:
    """Rows of a split, from `start` to before `stop`."""

    split: str
    start: int = 0
    stop: int = MAX_ROWS

    @property
    def is_all(self) -> bool:
        """Whether these are all rows, as far as the request says."""
        return (self.start, self.stop) == (0, MAX_ROWS)

    @property
    def slice(self) -> str:
        """The rows as they are written after the name of the split; empty if they are all."""
        return "" if self.is_all else f"[{self.start}:{'' if self.stop == MAX_ROWS else self.stop}]"

    def __str__(self) -> str:
        return f"{self.split}{self.slice}"


def choose_rows(
    splits: Sequence[str], request: str | None, name: str, count: Callable[[str], int]
) -> list[Rows]:
    """The requested rows in order, or those of the only split.

    Parameters
    ----------
    splits : sequence of str
        All splits.
    request : str, optional
        As in the library ``datasets``: splits joined by ``+``, each with an optional slice.
    name : str
        For error texts.
    count : callable
        The number of rows of a split; called only if the slices need it.

    Raises
    ------
    ValueError
        If the request is missing, is none of the splits, or names a row twice. The error lists the
        splits.
    """
    if request is None and len(splits) == 1:
        return [Rows(splits[0])]
    if request is not None and request in splits:
        return [Rows(request)]
    wanted = request or ""
    try:
        chosen = parse(wanted, dict.fromkeys(splits, MAX_ROWS))
        if re.search(r"\[[^]]*[-%]", wanted):  # counted from the end, or in percent
            chosen = parse(wanted, {rows.split: count(rows.split) for rows in chosen})
    except UnknownSplitError as error:
        example = f", or rows of one such as {splits[0]}[:100]" if splits else ""
        raise ValueError(
            f"split must be one of {', '.join(splits) or 'the saved ones'}, got {request} for "
            f"{name}; choose one with --split{example}"
        ) from error
    for i, a in enumerate(chosen):
        for b in chosen[:i]:
            if a.split == b.split and max(a.start, b.start) < min(a.stop, b.stop):
                raise ValueError(
                    f"split must name each row once, got {b} and {a} for {name}; leave the common "
                    "rows out of one"
                )
    return chosen


class UnknownSplitError(ValueError):
    """The request is not understood, or names a split that is missing."""


def parse(request: str, sizes: Mapping[str, int]) -> list[Rows]:
    """The rows of a request in splits of these sizes."""
    from datasets import ReadInstruction

    try:
        parts = ReadInstruction.from_spec(request).to_absolute(sizes)
    except ValueError as error:
        raise UnknownSplitError from error
    return [Rows(part.splitname, part.from_, part.to) for part in parts]


class SlicedData:
    """Some rows of a data set; the rows before them are read, those behind them are not.

    Parameters
    ----------
    data : Data
        One document a row.
    rows : Rows
        Which rows; their split is not looked at.
    """

    def __init__(self, data: Data, rows: Rows) -> None:
        self._data, self._rows = data, rows
        self.name, self.size = f"{data.name}{rows.slice}", None

    def __iter__(self) -> Iterator[Document]:
        row = -1
        for document in self._data:
            row += document.begins
            if row >= self._rows.stop:
                return
            if row >= self._rows.start:
                yield document


def cut(data: Data, rows: Rows) -> Data:
    """The rows of a data set; the data set itself if they are all."""
    return data if rows.is_all else SlicedData(data, rows)


def count_rows(data: Data) -> int:
    """The number of rows of a data set, which is read for it."""
    return sum(document.begins for document in data)


def refuse_split(split: str | None, name: str) -> None:
    """Raise ValueError if a split is requested of data without splits."""
    if split is not None:
        raise ValueError(
            f"split applies to data sets with splits, got {split} for {name}, which has none; "
            "leave --split out"
        )
