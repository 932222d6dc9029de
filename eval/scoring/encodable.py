"""Documents that the tokenizer can encode; the others are left out as bad rows."""

from collections.abc import Iterable, Iterator

from eval.config import SKIP
from eval.data.base import Data
from eval.data.checked import CheckedData, no_documents
from eval.data.columns import MAX_ROW
from eval.data.document import Document
from eval.tokenizers.base import Tokenizer


def encodable(data: Data, tokenizer: Tokenizer) -> Iterator[Document]:
    """The documents of the data; with `on_bad_row` skip, only those that the tokenizer encodes.

    Such a document is encoded twice, the first time as a whole before its first piece goes on, so
    that nothing of a bad row is scored. A text that is longer than a row can be goes on unseen, and
    so do tokens: what is wrong with them is an error.
    """
    if not isinstance(data, CheckedData) or data.on_bad_row != SKIP:
        yield from data
        return
    has_any = False
    for pieces, is_row in rows(data):
        try:
            for piece in pieces if is_row else ():
                tokenizer.encode(piece)
        except ValueError as error:
            data.skipped.add(str(error))
            continue
        has_any = True
        yield from pieces
    if not has_any:
        raise no_documents(data.name, data.skipped)


def rows(documents: Iterable[Document]) -> Iterator[tuple[list[Document], bool]]:
    """(pieces, whether they are a whole text of at most `MAX_ROW` bytes), in stream order."""
    pieces: list[Document] = []
    size, is_row = 0, True
    for document in documents:
        if document.begins:
            if pieces:
                yield pieces, is_row
            pieces, size, is_row = [], 0, document.raw is not None
        pieces.append(document)
        size += len(document.raw or b"")
        is_row = is_row and size <= MAX_ROW
        if not is_row:
            yield pieces, False
            pieces = []
    if pieces:
        yield pieces, is_row
