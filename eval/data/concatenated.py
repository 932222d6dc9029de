"""ConcatenatedData: several sources of documents as one stream."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from eval.data.base import Data
from eval.data.document import Document


def concatenate(parts: Sequence[Data]) -> Data:
    """One data set of these parts; a single part is returned as it is."""
    return parts[0] if len(parts) == 1 else ConcatenatedData(parts)


class ConcatenatedData:
    """Several data sets, one after the other, as one stream.

    Parameters
    ----------
    parts : sequence of Data
        At least one.
    name : str, optional
        Default: the names of the parts.
    """

    def __init__(self, parts: Sequence[Data], name: str | None = None) -> None:
        self._parts = parts
        self.name = ", ".join(part.name for part in parts) if name is None else name
        sizes = [part.size for part in parts]
        self.size = None if None in sizes else sum(size or 0 for size in sizes)

    def __iter__(self) -> Iterator[Document]:
        before, offset = 0, 0
        for part in self._parts:
            for document in part:
                offset = before + document.offset
                yield replace(document, offset=offset) if before else document
            before = offset if part.size is None else before + part.size
