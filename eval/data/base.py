"""Data: the interface that scoring needs of a data set."""

from collections.abc import Iterator
from typing import Protocol

from eval.data.document import Document


class Data(Protocol):
    """A stream of documents, the same at every pass."""

    @property
    def name(self) -> str:
        """What the user named, for the result: ``a.txt, b.txt``."""

    @property
    def size(self) -> int | None:
        """All of it, in the unit of `Document.offset`; None if unknown: a pipe, the Hub."""

    def __iter__(self) -> Iterator[Document]:
        """Documents from the first one on; long text in pieces. A pipe can be read once."""
