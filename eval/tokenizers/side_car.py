"""SideCarTokenizer: for token files with a side-car file of byte counts."""

from eval.data.document import Document
from eval.tokenizers.base import check_side_car
from eval.tokenizers.byte_checks import location
from eval.types import Tokens
from ngrammix.checks import as_tokens


class SideCarTokenizer:
    """A tokenizer for documents of tokens only; the data give the bytes of each token.

    Parameters
    ----------
    vocab_size : int
        V.
    bos : int, optional
        Token before each document.
    """

    name = "none"

    def __init__(self, vocab_size: int, bos: int | None = None) -> None:
        self.vocab_size, self.bos = vocab_size, bos

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64; ValueError if the data lack one."""
        if document.tokens is None:
            raise ValueError(
                f"text needs a tokenizer, got none for {location(document)}; "
                "name one with --tokenizer"
            )
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is None:
            raise ValueError(
                f"the bytes of the tokens must be known, got none for {location(document)}; "
                "name a tokenizer with --tokenizer, or a side-car file with --token-bytes"
            )
        return tokens, check_side_car(document)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """Always empty: the bytes are unknown."""
        return b""
