"""DataHash: what the signature knows the data by."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document


class DataHash:
    """SHA-256 of documents as they go by, however they were cut into pieces.

    Each document gives its raw bytes, then their number in 8 little-endian bytes and ``B``; or,
    where it has none, its token ids in 8 little-endian bytes each, then their number and ``T``.
    So documents differ from their concatenation, and text from tokens.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._end = b""  # what closes the document under way; none yet
        self._size = 0

    def update(self, document: Document) -> None:
        """Add a document, or the next piece of one; the name does not count."""
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
        self._digest.update(content)
        self._size += size
        self._end = self._size.to_bytes(8, "little") + unit

    def hexdigest(self) -> str:
        """64 hex digits of all documents so far, the last one taken to end here."""
        digest = self._digest.copy()
        digest.update(self._end)
        return digest.hexdigest()


def sha256(documents: Iterable[Document]) -> str:
    """`DataHash` of documents in order: 64 hex digits."""
    digest = DataHash()
    for document in documents:
        digest.update(document)
    return digest.hexdigest()


def tokens_sha256(tokens: NDArray[np.int64]) -> str:
    """Hash of token ids, 8 little-endian bytes each: 64 hex digits."""
    return hashlib.sha256(_ids(tokens)).hexdigest()


def _ids(tokens: NDArray[np.int64]) -> memoryview:
    return np.ascontiguousarray(tokens, "<i8").data
