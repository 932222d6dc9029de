"""Texts and rows as documents in pieces that a tokenizer encodes as it encodes the whole."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from eval.data.cuts import pieces
from eval.data.document import Document
from eval.data.source import Content

READ_SIZE = 1 << 20  # bytes of a read


def row_documents(name: str, row: bytes | ValueError, offset: int) -> Iterator[Document]:
    """A row of a table as the pieces of one document, all with the same offset.

    An error in the place of the row gives a document with this problem.
    """
    if isinstance(row, ValueError):
        yield Document(name, offset=offset, problem=str(row))
        return
    begins, n_left = True, len(row)
    for piece in pieces([row]):
        n_left -= len(piece)
        yield Document(name, piece, begins=begins, offset=offset, n_left=n_left)
        begins = False


def read_text(content: Content) -> Iterator[Document]:
    """The whole content as one document, byte for byte."""
    begins, n_left = True, 0

    def reads() -> Iterator[bytes]:
        nonlocal n_left
        while read := content.stream.read(READ_SIZE):
            n_left += len(read)
            yield read

    for piece in pieces(reads()):
        n_left -= len(piece)
        yield Document(content.name, piece, begins=begins, offset=content.position(), n_left=n_left)
        begins = False


def read_documents(paths: Iterable[str | Path]) -> list[Document]:
    """Each file as one document, byte for byte.

    Raises
    ------
    ValueError
        If a path does not exist, is a folder, or is an empty file.
    """
    documents = []
    for path in map(Path, paths):
        if path.is_dir() or not path.exists():  # a pipe will do
            what = "a folder" if path.is_dir() else "missing"
            raise ValueError(f"text must be a file, got {path}, which is {what}; check the path")
        raw = path.read_bytes()
        if not raw:
            raise ValueError(f"text must hold at least one byte, got the empty file {path}")
        documents.append(Document(str(path), raw))
    return documents
