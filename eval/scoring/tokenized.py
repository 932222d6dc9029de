"""TokenizedPiece: documents in a model's tokens, each token with its bytes of the raw text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.data.document import Document
from eval.tokenizers.base import Tokenizer

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenizedPiece:
    """The next tokens of a stream of documents.

    Attributes
    ----------
    tokens, n_bytes : (T,) int64
        Ids, and how many bytes of the raw text each one stands for.
    begins : (T,) bool
        Whether a document begins with this token.
    is_apart : bool
        Whether the first token starts afresh: no context of the model or the cache reaches back
        over it.
    names : tuple of str
        Of the documents that begin here.
    raw : bytes or None
        What the tokens spell; None where only ids are known.
    offset : int
        How much of the data was read by then, as `Document.offset`.
    """

    tokens: Tokens
    n_bytes: Tokens
    begins: NDArray[np.bool_]
    is_apart: bool
    names: tuple[str, ...] = ()
    raw: bytes | None = None
    offset: int = 0


def encode(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[TokenizedPiece]:
    """Documents in tokens, each on its own; ValueError if bytes cannot be accounted for."""
    for document in documents:
        tokens, n_bytes = tokenizer.encode(document)
        begins = np.zeros(len(tokens), np.bool_)
        begins[:1] = document.begins
        names = (document.name,) if document.begins else ()
        yield TokenizedPiece(
            tokens, n_bytes, begins, document.begins, names, document.raw, document.offset
        )


def joined(pieces: Iterable[TokenizedPiece], bos: int) -> Iterator[TokenizedPiece]:
    """All documents as one, with the token `bos` of no bytes between them: it is scored too."""
    for i, piece in enumerate(pieces):
        if not piece.is_apart or i == 0:
            yield piece
            continue
        yield TokenizedPiece(
            np.concatenate([[bos], piece.tokens]),
            np.concatenate([[0], piece.n_bytes]),
            np.concatenate([[True], np.zeros_like(piece.begins)]),
            False,
            piece.names,
            piece.raw,
            piece.offset,
        )


def first_tokens(pieces: Iterable[TokenizedPiece], limit: int) -> Iterator[TokenizedPiece]:
    """The pieces up to `limit` tokens in all; the last one is cut where it must be."""
    for piece in pieces:
        head, _ = split(piece, limit)
        yield head
        limit -= len(head.tokens)
        if limit == 0:
            return


def concatenate(a: TokenizedPiece, b: TokenizedPiece) -> TokenizedPiece:
    """One after the other."""
    if not len(a.tokens):
        return b
    return TokenizedPiece(
        np.concatenate([a.tokens, b.tokens]),
        np.concatenate([a.n_bytes, b.n_bytes]),
        np.concatenate([a.begins, b.begins]),
        a.is_apart,
        a.names + b.names,
        None if a.raw is None or b.raw is None else a.raw + b.raw,
        b.offset,
    )


def split(a: TokenizedPiece, n_tokens: int) -> tuple[TokenizedPiece, TokenizedPiece]:
    """The first `n_tokens`, or all that there are, and the rest."""
    n_bytes, n_names = int(a.n_bytes[:n_tokens].sum()), int(a.begins[:n_tokens].sum())
    raw = (None, None) if a.raw is None else (a.raw[:n_bytes], a.raw[n_bytes:])
    head = TokenizedPiece(
        a.tokens[:n_tokens], a.n_bytes[:n_tokens], a.begins[:n_tokens], a.is_apart,
        a.names[:n_names], raw[0], a.offset,
    )  # fmt: skip
    rest = TokenizedPiece(
        a.tokens[n_tokens:], a.n_bytes[n_tokens:], a.begins[n_tokens:], False,
        a.names[n_names:], raw[1], a.offset,
    )  # fmt: skip
    return head, rest
