"""TableTokenizer: a tokenizer with a table of the bytes of its tokens, checked on every text."""

from copy import copy
from typing import Self

import numpy as np

from eval.data.document import Document
from eval.tokenizers.base import Tokenizer, check_side_car
from eval.tokenizers.byte_checks import EXCERPT, check_decoding, check_raw_bytes, location
from eval.tokenizers.byte_table import ByteTable
from eval.types import Tokens
from ngrammix.checks import as_tokens


class TableTokenizer:
    """Base class of tokenizers whose tokens have the same bytes in every context.

    A subclass implements `ids`, from text to ids, `decode`, from ids to text, and `piece`. The
    bytes of the ids are compared with the raw bytes, and the decoded text with the table.

    Parameters
    ----------
    name : str
        Name in the signature.
    table : ByteTable
        The bytes of the vocabulary.
    bos : int, optional
        Token before each document.

    Raises
    ------
    ValueError
        If `bos` is not in the vocabulary.
    """

    def __init__(self, name: str, table: ByteTable, bos: int | None) -> None:
        check_bos(bos, len(table), name)
        self.name, self.vocab_size, self.bos = name, len(table), bos
        self.table = table
        # Whether the last token so far is a boundary: the next piece begins after it.
        self._at_boundary: bool | None = None

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64, of a document or its next piece.

        The pieces of a document must be encoded in order. Text is encoded without special tokens:
        a string such as ``<s>`` is text like any other.

        Raises
        ------
        ValueError
            If the text is not UTF-8, or the bytes of the tokens are not those of the text.
        """
        if document.tokens is None:
            return self._encode_text(document)
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is not None:
            return tokens, check_side_car(document)
        self._check_known(tokens, document)
        self._check_decoding(tokens, document)
        after_boundary = True if document.begins else self._at_boundary
        if after_boundary is None and self.table.space[tokens[0]]:
            raise ValueError(
                f"the pieces of a document must be encoded in order, got {location(document)} "
                "first; encode the document from its beginning"
            )
        self._at_boundary = bool(self.table.boundary[tokens[-1]])
        return tokens, self.table.count(tokens, after_boundary=bool(after_boundary))

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of token ids (T,) within a text; special tokens have none."""
        return self.table.decode_bytes(tokens)

    def raw_bytes(self, tokens: Tokens, n_bytes: Tokens) -> bytes | None:
        """The raw text of tokens (T,) of n_bytes (T,) each; None if they have other bytes."""
        return self.table.raw_bytes(tokens, n_bytes)

    def token_id(self, token: str) -> int | None:
        """Id of a token as written in the vocabulary, or None."""
        raise NotImplementedError

    def piece(self, i: int) -> str | None:
        """A token as written in the vocabulary; None for an id without a token."""
        raise NotImplementedError

    def ids(self, text: str, begins: bool) -> list[int]:
        """Ids of a text as the library encodes it, without any check."""
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:
        """The text of ids as the library decodes it."""
        raise NotImplementedError

    def with_vocabulary(self, vocab_size: int) -> Self:
        """The tokenizer with ids below `vocab_size` only.

        A text that needs another id is an error. ValueError if more than added tokens are left out.
        """
        if not self.table.added[vocab_size:].all():
            raise ValueError(too_large(self, vocab_size))
        tokenizer = copy(self)
        tokenizer.vocab_size = min(self.vocab_size, vocab_size)
        if tokenizer.bos is not None and tokenizer.bos >= vocab_size:
            tokenizer.bos = None
        return tokenizer

    def _encode_text(self, document: Document) -> tuple[Tokens, Tokens]:
        text = decode_utf8(document)
        ids = self.ids(text, document.begins) if text else []
        tokens = np.fromiter(ids, np.int64, len(ids))
        self._check_known(tokens, document)
        n_bytes = self.table.count(tokens, after_boundary=document.begins)
        decoded = self.table.decode_bytes(tokens)
        check_raw_bytes(decoded[len(decoded) - int(n_bytes.sum()) :], document)
        self._at_boundary = False
        return tokens, n_bytes

    def _check_known(self, tokens: Tokens, document: Document) -> None:
        if len(tokens) and (highest := tokens.max()) >= self.vocab_size:
            text = self.table.decode_bytes(np.array([highest]))
            raise ValueError(
                f"tokens must be below the {self.vocab_size} of the model, got {highest} for "
                f"{text!r} in {location(document)}; remove this text, or take the tokenizer that "
                "the model was trained with"
            )
        unknown = self.table.unknown[tokens]
        if unknown.any():
            first = int(unknown.argmax())
            before = self.table.count(tokens[:first], after_boundary=document.begins).sum()
            text = (document.raw or b"")[before : before + EXCERPT]
            raise ValueError(
                f"every token must have known bytes, got the unknown token {tokens[first]} at "
                f"position {first} of {location(document)}{f', at {text!r}' if text else ''}; "
                "take a tokenizer that can encode every byte"
            )

    def _check_decoding(self, tokens: Tokens, document: Document) -> None:
        boundary = self.table.boundary[tokens]
        for run in np.split(tokens, np.flatnonzero(boundary)):
            if len(text := run[~self.table.boundary[run]]):
                check_decoding(self.table.decode_bytes(text), self.decode(text.tolist()), document)


def check_bos(bos: int | None, vocab_size: int, name: str) -> None:
    """Raise ValueError if `bos` is not in the vocabulary of the tokenizer `name`."""
    if bos is not None and not 0 <= bos < vocab_size:
        raise ValueError(
            f"bos must be in [0, {vocab_size}), got {bos} for the tokenizer {name}; pass the id of "
            "the token that begins a document"
        )


def fit_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The tokenizer for a model of `vocab_size` tokens.

    Tokens that were added to its vocabulary may be beyond it, as those for images are in some text
    models. ValueError for other ids beyond it.
    """
    if tokenizer.vocab_size <= vocab_size:
        return tokenizer
    if isinstance(tokenizer, TableTokenizer):
        return tokenizer.with_vocabulary(vocab_size)
    raise ValueError(too_large(tokenizer, vocab_size))


def too_large(tokenizer: Tokenizer, vocab_size: int) -> str:
    """Error text for a tokenizer with ids beyond the vocabulary of the model."""
    return (
        f"tokenizer must have at most the {vocab_size} tokens of the model, got "
        f"{tokenizer.vocab_size} in {tokenizer.name}; name the tokenizer that the model was "
        "trained with"
    )


def decode_utf8(document: Document) -> str:
    """The text of the document; the ValueError names the first byte that is not UTF-8."""
    raw = document.raw or b""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text must be UTF-8 for this model, got byte 0x{raw[error.start]:02x} at "
            f"{error.start} in {location(document)} ({error.reason}); convert the file, or "
            "score its raw bytes with --model none"
        ) from error
