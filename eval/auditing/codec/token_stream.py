"""TokenStream: the tokens that are coded, and what the decoder knows before the first of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval.config import ScoreConfig
from eval.data.open_data import as_data
from eval.scoring.dataloader import BatchStream
from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.windows import Window, WindowShape, cut, windows
from eval.tokenizers.base import Tokenizer
from eval.types import Tokens
from ngrammix.checks import as_tokens

PIECE = 1 << 16  # positions of a document that are laid out at once


@dataclass(frozen=True)
class Layout:
    """Where documents begin: it is not coded, as a score does not charge for it either.

    Attributes
    ----------
    lengths : tuple of int
        Tokens of each document, each >= 1.
    leads : tuple of int
        The token before the first one of each document: the BOS, or a token that is context only.
    """

    lengths: tuple[int, ...]
    leads: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """The tokens of all documents."""
        return sum(self.lengths)


@dataclass(frozen=True, eq=False)
class TokenStream:
    """The tokens (N,) int64 of a layout of N tokens."""

    tokens: Tokens
    layout: Layout

    def head(self, n_tokens: int) -> "TokenStream":
        """The first tokens, `n_tokens` at most, of one document."""
        tokens = self.tokens[:n_tokens]
        return TokenStream(tokens, Layout((len(tokens),), self.layout.leads))


@dataclass(frozen=True)
class Step:
    """What the model reads before one token: token `first` of its document up to the last known.

    Attributes
    ----------
    lead : int or None
        The token before the document, if it begins here.
    first : int
        Where the window begins, as an index into the document with its lead.
    """

    lead: int | None
    first: int


def one_document(tokens: ArrayLike, vocab_size: int, bos: int | None) -> TokenStream:
    """All tokens as one document after `bos`; without one the first token is context only.

    Raises
    ------
    ValueError
        If the tokens are not 1-D integers in [0, V), or there is none to code.
    """
    ids = as_tokens(tokens, vocab_size)
    if bos is None and len(ids) < 2:
        raise ValueError(
            f"a round trip needs at least 2 tokens where no BOS is known, got {len(ids)}: the "
            "first is context only; pass more tokens, or bos"
        )
    lead, coded = (int(ids[0]), ids[1:]) if bos is None else (bos, ids)
    return TokenStream(coded, Layout((len(coded),), (lead,)))


def first_tokens_of(
    data: Any, tokenizer: Tokenizer, config: ScoreConfig, shape: WindowShape, n_tokens: int
) -> TokenStream:
    """The first tokens that `score` scores, `n_tokens` or as many as there are.

    ValueError if there are none, or the data cannot be read.
    """
    limit = n_tokens if config.limit is None else min(n_tokens, config.limit)
    stream = BatchStream(as_data(data, tokenizer), tokenizer, replace(config, limit=limit), shape)
    parts: list[Tokens] = []
    lengths: list[int] = []
    leads: list[int] = []
    for piece in stream.pieces():
        if not len(piece.tokens):
            continue
        if piece.is_context_start or not lengths:
            lengths.append(0)
            leads.append((shape.bos or 0) if piece.lead is None else piece.lead)
        lengths[-1] += len(piece.tokens)
        parts.append(piece.tokens)
    if not parts:
        raise ValueError("a round trip needs at least one token, got none; name other data")
    return TokenStream(np.concatenate(parts), Layout(tuple(lengths), tuple(leads)))


def steps(layout: Layout, shape: WindowShape) -> Iterator[Step]:
    """One step for each token of a layout: the windows of `score`, each cut before the token."""
    document = -1
    places = [range(1, length + 1) for length in layout.lengths]  # that of the lead is 0
    for window in windows(_pieces(places, repeat(None)), shape.context, shape.stride, None):
        is_start = window.piece.is_context_start
        document += is_start
        for i in range(len(window.piece.tokens)):
            lead = layout.leads[document] if is_start and i == 0 else None
            yield Step(lead, int(window.inputs[0]))


def windows_of(stream: TokenStream, shape: WindowShape) -> Iterator[Window]:
    """The windows of `score` over a stream, with all tokens of each."""
    ends = np.cumsum(stream.layout.lengths)
    pieces = _pieces(np.split(stream.tokens, ends[:-1]), stream.layout.leads)
    cover = windows(pieces, shape.context, shape.stride, None)
    if shape.keeps_rows and shape.max_rows is not None:
        return cut(cover, shape.max_rows)
    return cover


def _pieces(
    documents: Iterable[Sequence[int] | Tokens], leads: Iterable[int | None]
) -> Iterator[TokenizedPiece]:
    """Documents, each after its lead, in pieces."""
    for document, first in zip(documents, leads, strict=False):
        for start in range(0, len(document), PIECE):
            tokens = np.asarray(document[start : start + PIECE], np.int64)
            lead = first if start == 0 else None
            none = np.zeros_like(tokens)
            yield TokenizedPiece(tokens, none, none > 0, is_context_start=start == 0, lead=lead)
