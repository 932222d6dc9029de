"""TokenizedPiece: tokens of documents, with the number of raw bytes that each one stands for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from eval.data.document import Document, Opening
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.origin import OriginCheck, check_encoded
from eval.tokenizers.table_tokenizer import TableTokenizer
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
        The text of the tokens; None where it is unknown.
    start, offset : float
        Where the tokens begin and end in the data, in the unit of `Document.offset`.
    opening : Opening
        What stands before the first token of its document.
    lead : int or None
        The token before the first one, which is context only; None: the BOS.
    """

    tokens: Tokens
    n_bytes: Tokens
    begins: Bools
    is_context_start: bool
    names: tuple[str, ...] = ()
    raw: bytes | None = None
    start: float = 0
    offset: float = 0
    opening: Opening = Opening.BOS
    lead: int | None = None


def encode(
    documents: Iterable[Document], tokenizer: Tokenizer, *, token_check: bool = True
) -> Iterator[TokenizedPiece]:
    """One piece for each document; ValueError if the tokens do not account for every byte.

    With `token_check` also if the tokens of the data cannot be those of the tokenizer.
    """
    origin = OriginCheck(tokenizer, is_on=token_check)
    start: float = 0
    for document in documents:
        origin.check(document)
        tokens, n_bytes = tokenizer.encode(document)
        check_encoded(tokens, n_bytes, tokenizer, document)
        begins = np.zeros(len(tokens), np.bool_)
        begins[:1] = document.begins
        names = (document.name,) if document.begins else ()
        end: float = document.offset
        if document.n_left:  # the offset is that of the end of the row
            n_bytes_here = len(document.raw or b"")
            end = start + (end - start) * n_bytes_here / (n_bytes_here + document.n_left)
        raw = document.raw
        if raw is None:
            raw = text_of(tokens, n_bytes, tokenizer)
        yield TokenizedPiece(
            tokens, n_bytes, begins, document.begins, names, raw, start, end, document.opening
        )
        start = end


def text_of(tokens: Tokens, n_bytes: Tokens, tokenizer: Tokenizer) -> bytes | None:
    """The text of tokens (T,) of n_bytes (T,) each; None if the tokenizer does not know it."""
    if isinstance(tokenizer, TableTokenizer):
        return tokenizer.raw_bytes(tokens, n_bytes)
    raw = tokenizer.decode_bytes(tokens)
    return raw if len(raw) == n_bytes.sum() else None


def join_documents(pieces: Iterable[TokenizedPiece], bos: int | None) -> Iterator[TokenizedPiece]:
    """All documents as one, with `bos`, a scored token of 0 bytes, between them.

    Documents that their own last token ends follow one another as they are, and the first token of
    the stream is then context only.
    """
    for i, piece in enumerate(pieces):
        if not piece.is_context_start:
            yield piece
        elif i == 0:
            is_bare = piece.opening is not Opening.BOS
            yield replace(piece, opening=Opening.NOTHING if is_bare else Opening.BOS)
        elif bos is None or piece.opening is Opening.END:
            yield replace(piece, is_context_start=False)
        else:
            first = np.array([bos]), np.array([0]), np.array([True])
            parts = piece.tokens, piece.n_bytes, np.zeros_like(piece.begins)
            tokens, n_bytes, begins = (
                np.concatenate(pair) for pair in zip(first, parts, strict=True)
            )
            yield replace(
                piece, tokens=tokens, n_bytes=n_bytes, begins=begins, is_context_start=False
            )


class ContextOnly:
    """Takes the first token of a context away where no BOS stands before it, and counts these.

    Attributes
    ----------
    n_tokens, n_bytes : int
        Tokens that are context only so far, and their bytes.
    """

    def __init__(self) -> None:
        self.n_tokens = self.n_bytes = 0

    def remove(
        self, pieces: Iterable[TokenizedPiece], *, has_bos: bool
    ) -> Iterator[TokenizedPiece]:
        """The pieces without these tokens; `has_bos`: a BOS is put before the other contexts."""
        lead: int | None = None
        names: tuple[str, ...] = ()
        has_lost = False  # whether the first token of this context was taken away
        is_first = False  # whether no token of it has been yielded since
        for piece in pieces:
            if piece.is_context_start:
                has_lost = has_bos and piece.opening is not Opening.NOTHING
                is_first = not has_lost
            if not has_lost and len(piece.tokens):
                head, piece = split(piece, 1)
                has_lost, lead, names = True, int(head.tokens[0]), head.names
                self.n_tokens, self.n_bytes = self.n_tokens + 1, self.n_bytes + int(head.n_bytes[0])
            if is_first and len(piece.tokens):
                begins = piece.begins.copy()
                names = piece.names if begins[0] else names + piece.names
                begins[0], is_first = True, False
                piece = replace(piece, begins=begins, names=names, lead=lead, is_context_start=True)
            if len(piece.tokens) or not is_first:
                yield piece


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
    return replace(
        a,
        tokens=np.concatenate([a.tokens, b.tokens]),
        n_bytes=np.concatenate([a.n_bytes, b.n_bytes]),
        begins=np.concatenate([a.begins, b.begins]),
        names=a.names + b.names,
        raw=None if a.raw is None or b.raw is None else a.raw + b.raw,
        offset=b.offset,
    )


def split(piece: TokenizedPiece, n_tokens: int) -> tuple[TokenizedPiece, TokenizedPiece]:
    """(the first `n_tokens` tokens, or all if there are fewer; the rest)."""
    n_bytes, n_names = int(piece.n_bytes[:n_tokens].sum()), int(piece.begins[:n_tokens].sum())
    raw = (None, None) if piece.raw is None else (piece.raw[:n_bytes], piece.raw[n_bytes:])
    share = min(1.0, n_tokens / max(1, len(piece.tokens)))
    middle = piece.start + (piece.offset - piece.start) * share
    head = replace(
        piece,
        tokens=piece.tokens[:n_tokens],
        n_bytes=piece.n_bytes[:n_tokens],
        begins=piece.begins[:n_tokens],
        names=piece.names[:n_names],
        raw=raw[0],
        offset=middle,
    )
    rest = replace(
        piece,
        tokens=piece.tokens[n_tokens:],
        n_bytes=piece.n_bytes[n_tokens:],
        begins=piece.begins[n_tokens:],
        is_context_start=False,
        names=piece.names[n_names:],
        raw=raw[1],
        start=middle,
        lead=None,
    )
    return head, rest
