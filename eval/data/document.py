"""Document: what is scored, as raw bytes or as token ids, whole or piece by piece."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Document:
    """A document, or the next piece of one that is long: its raw bytes, or its token ids.

    Attributes
    ----------
    name : str
        Where it stands, for errors: ``notes.txt``, ``pages.jsonl:17``, ``val.bin:3``.
    raw : bytes or None
        Nothing was decoded, normalised or dropped; None where only tokens are known.
    tokens : (T,) int64 or None
        Ids without the token that begins a document; None where there is raw text.
    token_bytes : (T,) int64 or None
        Raw bytes that each token stands for, where the data say so (a side-car file).
    begins : bool
        Whether a document begins here; False where it goes on from the piece before.
    offset : int
        How much of the data was read once this was, in the unit of their size.
    """

    name: str
    raw: bytes | None = None
    tokens: NDArray[np.int64] | None = None
    token_bytes: NDArray[np.int64] | None = None
    begins: bool = True
    offset: int = 0


class Documents:
    """Documents in memory as data to be scored; their offset counts documents.

    Parameters
    ----------
    documents : sequence of Document
        In the order in which they are read.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self.name = ", ".join(document.name for document in documents if document.begins)
        self.size = len(documents)

    def __iter__(self) -> Iterator[Document]:
        for offset, document in enumerate(self._documents, start=1):
            yield replace(document, offset=offset)
