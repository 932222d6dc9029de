"""DataHash: the hash of the data in the signature of a score."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document


class DataHash:
    """SHA-256 of a stream of documents, the same for every division into pieces.

    A document of text contributes its raw bytes, their number as 8 little-endian bytes, and ``B``;
    a document of tokens contributes its ids as 8 little-endian bytes each, their number, and ``T``.
    Numbers of raw bytes that come with the tokens are hashed apart, and close the hash after ``S``.
    Two documents therefore never hash like their concatenation, nor text like tokens.
    """

    def __init__(self) -> None:
        self._digest, self._sizes = hashlib.sha256(), hashlib.sha256()
        self._has_sizes = False
        self._end = b""  # the length and unit that close the current document
        self._size = 0

    def update(self, document: Document) -> None:
        """Add a document, or its next piece; the name is not part of the hash."""
        if document.begins:
            self._digest.update(self._end)
            self._size = 0
        content: bytes | memoryview
        if document.raw is not None:
            content, unit, size = document.raw, b"B", len(document.raw)
        elif document.tokens is not None:
            content, unit, size = _ids(document.tokens), b"T", len(document.tokens)
        else:
            raise ValueError(
                f"document must have raw bytes or tokens, got neither in {document.name}; give one"
            )
        if document.token_bytes is not None:
            self._sizes.update(_ids(document.token_bytes))
            self._has_sizes = True
        self._digest.update(content)
        self._size += size
        self._end = self._size.to_bytes(8, "little") + unit

    def hexdigest(self) -> str:
        """64 hex digits of all documents so far; the last one is taken as complete."""
        digest = self._digest.copy()
        digest.update(self._end)
        if self._has_sizes:
            digest.update(b"S" + self._sizes.digest())
        return digest.hexdigest()


def sha256(documents: Iterable[Document]) -> str:
    """`DataHash` of the documents, in order: 64 hex digits."""
    digest = DataHash()
    for document in documents:
        digest.update(document)
    return digest.hexdigest()


def tokens_sha256(tokens: NDArray[np.int64]) -> str:
    """SHA-256 of token ids (T,), 8 little-endian bytes each: 64 hex digits."""
    return hashlib.sha256(_ids(tokens)).hexdigest()


def _ids(tokens: NDArray[np.int64]) -> memoryview:
    return np.ascontiguousarray(tokens, "<i8").data
