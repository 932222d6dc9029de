"""Document: the unit of data, as raw bytes or as token ids, whole or in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from eval.data.columns import encode
from eval.data.cuts import pieces


class Opening(Enum):
    """What stands before the first token of a document."""

    BOS = "bos"  # a BOS token; one is put there where the data have none
    END = "end"  # the token that ends the document before: all documents are one stream as it is
    NOTHING = "nothing"  # the text begins in the middle: the first token is context only


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
    problem : str or None
        The error text of a row that cannot be read; the document then has neither bytes nor tokens.
    n_left : int
        Bytes of the later pieces, if `offset` is that of the end of the whole document.
    opening : Opening
        What stands before its first token; the same in all its pieces.
    """

    name: str
    raw: bytes | None = None
    tokens: NDArray[np.int64] | None = None
    token_bytes: NDArray[np.int64] | None = None
    begins: bool = True
    offset: int = 0
    problem: str | None = None
    n_left: int = 0
    opening: Opening = Opening.BOS


class Documents:
    """Documents or texts in memory as a data set; offsets count documents and pieces of them.

    Parameters
    ----------
    documents : iterable of Document, str or bytes
        In stream order. A text is encoded in UTF-8; bytes are taken as they are.

    Raises
    ------
    ValueError
        If one is none of these, or a text has a lone surrogate.
    """

    def __init__(self, documents: Iterable[Document | str | bytes]) -> None:
        if isinstance(documents, str | bytes):
            raise ValueError(
                f"documents must be a list of texts, got one of {len(documents)} characters; pass "
                "[text]"
            )
        self._documents: list[Document] = []
        names = []
        for number, document in enumerate(documents, 1):
            if isinstance(document, Document):
                self._documents.append(document)
                names += [document.name] if document.begins else []
                continue
            name = f"text {number}"
            for i, piece in enumerate(pieces([as_bytes(document, name)])):
                self._documents.append(Document(name, piece, begins=i == 0))
        self.size = len(self._documents)
        n_texts = sum(document.begins for document in self._documents) - len(names)
        self.name = ", ".join(names + [f"{n_texts} texts"] * bool(n_texts))

    def __iter__(self) -> Iterator[Document]:
        for offset, document in enumerate(self._documents, start=1):
            yield replace(document, offset=offset)


def as_bytes(text: object, name: str) -> bytes:
    """The bytes of a text; the ValueError calls it `name`."""
    if isinstance(text, str):
        return encode(text, name)
    if isinstance(text, bytes):
        return text
    raise ValueError(
        f"text must be str or bytes, got {type(text).__name__} as {name}; remove it or convert it"
    )
