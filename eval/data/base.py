"""Data: the interface that scoring needs of a data set."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from eval.data.document import Document


@runtime_checkable
class Data(Protocol):
    """A stream of documents, the same in every iteration."""

    @property
    def name(self) -> str:
        """The names that the user gave, for the result: ``a.txt, b.txt``."""

    @property
    def size(self) -> int | None:
        """Total size in the unit of `Document.offset`; None if unknown (a pipe, the Hub)."""

    def __iter__(self) -> Iterator[Document]:
        """Iterate over the documents from the first one; long ones come in pieces.

        A pipe can be read once only.
        """
