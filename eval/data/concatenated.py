"""ConcatenatedData: several sources of documents as one stream."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from eval.data.base import Data
from eval.data.document import Document


class ConcatenatedData:
    """Several data sets, one after the other, as one stream.

    Parameters
    ----------
    parts : sequence of Data
        At least one.
    skip_empty : bool
        Skip documents without bytes or tokens. Otherwise such a document is an error.

    Raises
    ------
    ValueError
        While iterating, if a document is empty, or no part has any document.
    """

    def __init__(self, parts: Sequence[Data], *, skip_empty: bool = False) -> None:
        self._parts, self._skip_empty = parts, skip_empty
        self.name = ", ".join(part.name for part in parts)
        sizes = [part.size for part in parts]
        self.size = None if None in sizes else sum(size or 0 for size in sizes)

    def __iter__(self) -> Iterator[Document]:
        before, offset, has_any = 0, 0, False
        for part in self._parts:
            for document in part:
                offset = before + document.offset
                if is_empty(document):
                    if self._skip_empty:
                        continue
                    unit = "byte" if document.tokens is None else "token"
                    raise ValueError(
                        f"document must hold at least one {unit}, got the empty {document.name}; "
                        "remove it, or pass --skip-empty"
                    )
                has_any = True
                yield replace(document, offset=offset) if before else document
            before = offset if part.size is None else before + part.size
        if not has_any:
            raise ValueError(
                f"data must hold at least one document, got none in {self.name}; name other files"
            )


def is_empty(document: Document) -> bool:
    """Whether the document or piece has neither bytes nor tokens."""
    return not document.raw and (document.tokens is None or len(document.tokens) == 0)
