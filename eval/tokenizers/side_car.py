"""SideCarTokenizer: token files whose token bytes stand in a side-car file."""

from eval.data.document import Document
from eval.tokenizers.base import check_side_car
from eval.tokenizers.byte_checks import location
from eval.types import Tokens
from ngrammix.checks import as_tokens


class SideCarTokenizer:
    """No tokenizer: only documents of tokens, and the data say how many bytes each one has.

    Parameters
    ----------
    vocab_size : int
        V.
    bos : int, optional
        Token that stands before a document.
    """

    name = "none"

    def __init__(self, vocab_size: int, bos: int | None = None) -> None:
        self.vocab_size, self.bos = vocab_size, bos

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64; ValueError if the data lack either."""
        if document.tokens is None:
            raise ValueError(
                f"text needs a tokenizer, got none for {location(document)}; "
                "name one with --tokenizer"
            )
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is None:
            raise ValueError(
                f"the bytes of tokens must be known, got none for {location(document)}; "
                "name the tokenizer with --tokenizer, or the bytes of each token with --token-bytes"
            )
        return tokens, check_side_car(document)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """Nothing: nobody knows."""
        return b""
