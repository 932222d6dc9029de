"""TokenizedPiece: tokens of documents, with the number of raw bytes that each one stands for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.data.document import Document
from eval.tokenizers.base import Tokenizer
from eval.types import Bools, Tokens


@dataclass(frozen=True, eq=False)
class TokenizedPiece:
    """T consecutive tokens of a stream of documents.

    Attributes
    ----------
    tokens, n_bytes : (T,) int64
        Ids, and the bytes of the raw text that each token stands for.
    begins : (T,) bool
        Whether a document begins with this token.
    is_context_start : bool
        Whether the context is empty before the first token, for the model and for the cache.
    names : tuple of str
        Names of the documents that begin here.
    raw : bytes or None
        The text of the tokens; None where only ids are available.
    start, offset : float
        Where the tokens begin and end in the data, in the unit of `Document.offset`.
    """

    tokens: Tokens
    n_bytes: Tokens
    begins: Bools
    is_context_start: bool
    names: tuple[str, ...] = ()
    raw: bytes | None = None
    start: float = 0
    offset: float = 0


def encode(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[TokenizedPiece]:
    """One piece for each document; ValueError if the tokens do not account for every byte."""
    start: float = 0
    for document in documents:
        tokens, n_bytes = tokenizer.encode(document)
        begins = np.zeros(len(tokens), np.bool_)
        begins[:1] = document.begins
        names = (document.name,) if document.begins else ()
        end: float = document.offset
        if document.n_left:  # the offset is that of the end of the row
            n_bytes_here = len(document.raw or b"")
            end = start + (end - start) * n_bytes_here / (n_bytes_here + document.n_left)
        yield TokenizedPiece(
            tokens, n_bytes, begins, document.begins, names, document.raw, start, end
        )
        start = end


def join_documents(pieces: Iterable[TokenizedPiece], bos: int) -> Iterator[TokenizedPiece]:
    """All documents as one, with `bos`, a scored token of 0 bytes, between them."""
    for i, piece in enumerate(pieces):
        if not piece.is_context_start or i == 0:
            yield piece
            continue
        yield TokenizedPiece(
            np.concatenate([[bos], piece.tokens]),
            np.concatenate([[0], piece.n_bytes]),
            np.concatenate([[True], np.zeros_like(piece.begins)]),
            False,
            piece.names,
            piece.raw,
            piece.start,
            piece.offset,
        )


def first_tokens(pieces: Iterable[TokenizedPiece], limit: int) -> Iterator[TokenizedPiece]:
    """The first `limit` tokens of the pieces."""
    for piece in pieces:
        head, _ = split(piece, limit)
        yield head
        limit -= len(head.tokens)
        if limit == 0:
            return


def concatenate(a: TokenizedPiece, b: TokenizedPiece) -> TokenizedPiece:
    """One piece: the tokens of `a`, then those of `b`."""
    if not len(a.tokens):
        return b
    return TokenizedPiece(
        np.concatenate([a.tokens, b.tokens]),
        np.concatenate([a.n_bytes, b.n_bytes]),
        np.concatenate([a.begins, b.begins]),
        a.is_context_start,
        a.names + b.names,
        None if a.raw is None or b.raw is None else a.raw + b.raw,
        a.start,
        b.offset,
    )


def split(piece: TokenizedPiece, n_tokens: int) -> tuple[TokenizedPiece, TokenizedPiece]:
    """(the first `n_tokens` tokens, or all if there are fewer; the rest)."""
    n_bytes, n_names = int(piece.n_bytes[:n_tokens].sum()), int(piece.begins[:n_tokens].sum())
    raw = (None, None) if piece.raw is None else (piece.raw[:n_bytes], piece.raw[n_bytes:])
    share = min(1.0, n_tokens / max(1, len(piece.tokens)))
    middle = piece.start + (piece.offset - piece.start) * share
    head = TokenizedPiece(
        piece.tokens[:n_tokens],
        piece.n_bytes[:n_tokens],
        piece.begins[:n_tokens],
        piece.is_context_start,
        piece.names[:n_names],
        raw[0],
        piece.start,
        middle,
    )
    rest = TokenizedPiece(
        piece.tokens[n_tokens:],
        piece.n_bytes[n_tokens:],
        piece.begins[n_tokens:],
        False,
        piece.names[n_names:],
        raw[1],
        middle,
        piece.offset,
    )
    return head, rest
