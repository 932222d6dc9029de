"""CheckedData: what becomes of empty documents and of rows that cannot be read."""

from collections.abc import Iterator
from dataclasses import dataclass

from eval.config import ERROR, SKIP
from eval.data.base import Data
from eval.data.document import Document


@dataclass
class Skipped:
    """The rows that an iteration has left out: how many, and the problem of the first one."""

    count: int = 0
    first: str | None = None

    def add(self, problem: str) -> None:
        """Count a row with its problem."""
        self.count += 1
        self.first = self.first or problem


class CheckedData:
    """A data set whose documents have bytes or tokens; others are left out or are an error.

    Parameters
    ----------
    data : Data
        Documents, some of them empty or with problems.
    skip_empty : bool
        Leave out documents without bytes or tokens. Otherwise such a document is an error.
    on_bad_row : str
        ``skip`` leaves out rows that cannot be read, and counts them; ``error`` raises.

    Attributes
    ----------
    skipped : Skipped
        The bad rows that the last iteration has left out. Whoever finds that a row cannot be
        encoded adds it here.

    Raises
    ------
    ValueError
        If `on_bad_row` is neither. While iterating, if a document is empty, a row cannot be read,
        or there is no document.
    """

    def __init__(self, data: Data, *, skip_empty: bool = False, on_bad_row: str = ERROR) -> None:
        if on_bad_row not in (ERROR, SKIP):
            raise ValueError(
                f"on_bad_row must be error or skip, got {on_bad_row!r}; leave it out for error"
            )
        self._data, self._skip_empty, self.on_bad_row = data, skip_empty, on_bad_row
        self.name, self.size = data.name, data.size
        self.skipped = Skipped()

    def __iter__(self) -> Iterator[Document]:
        self.skipped = Skipped()
        has_any = False
        for document in self._data:
            if document.problem is not None:
                if self.on_bad_row == ERROR:
                    raise ValueError(document.problem)
                self.skipped.add(document.problem)
            elif not is_empty(document):
                has_any = True
                yield document
            elif not self._skip_empty:
                unit = "byte" if document.tokens is None else "token"
                raise ValueError(
                    f"document must hold at least one {unit}, got the empty {document.name}; "
                    "remove it, or pass --skip-empty"
                )
        if not has_any:
            raise no_documents(self.name, self.skipped)


def no_documents(name: str, skipped: Skipped) -> ValueError:
    """The error of a data set without documents to score."""
    if skipped.count:
        return ValueError(
            f"data must hold at least one good row, got {skipped.count} bad in {name}, the "
            f"first: {skipped.first}"
        )
    return ValueError(f"data must hold at least one document, got none in {name}; name other files")


def is_empty(document: Document) -> bool:
    """Whether the document or piece has neither bytes nor tokens."""
    return not document.raw and (document.tokens is None or len(document.tokens) == 0)
