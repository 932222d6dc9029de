"""Document: the unit of data, as raw bytes or as token ids, whole or in pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Document:
    """A document, or one piece of a long document: its raw bytes, or its token ids.

    Attributes
    ----------
    name : str
        Its location, for error texts: ``notes.txt``, ``pages.jsonl:17``, ``val.bin:3``.
    raw : bytes or None
        The bytes of the source, neither decoded nor normalised; None for a document of tokens.
    tokens : (T,) int64 or None
        Ids without the beginning-of-document token; None for a document of text.
    token_bytes : (T,) int64 or None
        Number of raw bytes of each token, if a side-car file gives it.
    begins : bool
        True for a document or its first piece, False for its later pieces.
    offset : int
        How much of the data has been read after this piece, in the unit of `Data.size`.
    """

    name: str
    raw: bytes | None = None
    tokens: NDArray[np.int64] | None = None
    token_bytes: NDArray[np.int64] | None = None
    begins: bool = True
    offset: int = 0


class Documents:
    """Documents in memory as a data set; offsets count documents.

    Parameters
    ----------
    documents : sequence of Document
        In stream order.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self.name = ", ".join(document.name for document in documents if document.begins)
        self.size = len(documents)

    def __iter__(self) -> Iterator[Document]:
        for offset, document in enumerate(self._documents, start=1):
            yield replace(document, offset=offset)
