"""Tokenizer: the interface that scoring needs, and the checks that all tokenizers share."""

from typing import Protocol

from eval.data.document import Document
from eval.tokenizers.byte_checks import location
from eval.types import Tokens


class Tokenizer(Protocol):
    """What the workbench asks of a tokenizer."""

    @property
    def name(self) -> str:
        """Name for the signature, with a hash of its file."""

    @property
    def vocab_size(self) -> int:
        """One more than the highest id."""

    bos: int | None  # token that stands before a document; None where nothing does

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64, of a document or its next piece.

        Raw text is encoded without special tokens; of a document of tokens the bytes are counted,
        or taken from it. ValueError if they cannot be accounted for exactly.
        """

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """What these ids (T,) spell inside a text; those that mark something spell nothing."""


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise ValueError if the tokenizer has ids that the model, of `vocab_size`, lacks."""
    if tokenizer.vocab_size > vocab_size:
        raise ValueError(
            f"tokenizer must have at most the model's {vocab_size} tokens, got "
            f"{tokenizer.vocab_size} in {tokenizer.name}: the wrong vocabulary; name the one that "
            "the model was trained with"
        )


def check_side_car(document: Document) -> Tokens:
    """The bytes (T,) that the data give each token, or ValueError unless they fit the tokens."""
    n_bytes, n_tokens = document.token_bytes, 0 if document.tokens is None else len(document.tokens)
    if n_bytes is None or n_bytes.shape != (n_tokens,) or (n_bytes < 0).any():
        shape = None if n_bytes is None else n_bytes.shape
        raise ValueError(
            f"token bytes must be {n_tokens} counts >= 0, one a token, got shape {shape} for "
            f"{location(document)}; they are the raw bytes that each token stands for"
        )
    return n_bytes
