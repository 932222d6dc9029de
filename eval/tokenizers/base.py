"""Tokenizer: the interface that scoring needs, and the checks that all tokenizers share."""

from typing import Protocol

from eval.data.document import Document
from eval.tokenizers.byte_checks import location
from eval.types import Tokens


class Tokenizer(Protocol):
    """The interface of a tokenizer."""

    @property
    def name(self) -> str:
        """Name in the signature, with a hash of the file."""

    @property
    def vocab_size(self) -> int:
        """V, one more than the highest id."""

    bos: int | None  # the token before each document, or None

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """Tokens of a document or its next piece, and the number of raw bytes of each token.

        Text is encoded without special tokens. The bytes of a document of tokens are counted,
        or taken from its side-car file.

        Returns
        -------
        tokens, n_bytes : (T,) int64

        Raises
        ------
        ValueError
            If the bytes of the tokens are not exactly those of the text, or are unknown.
        """

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of token ids (T,) within a text; special tokens have none."""


def check_side_car(document: Document) -> Tokens:
    """The number of raw bytes (T,) of each token from the data; ValueError if it does not fit."""
    n_bytes, n_tokens = document.token_bytes, 0 if document.tokens is None else len(document.tokens)
    if n_bytes is None or n_bytes.shape != (n_tokens,) or (n_bytes < 0).any():
        shape = None if n_bytes is None else n_bytes.shape
        raise ValueError(
            f"token bytes must be {n_tokens} counts >= 0, one per token, got shape {shape} for "
            f"{location(document)}; pass the number of raw bytes of each token"
        )
    return n_bytes
