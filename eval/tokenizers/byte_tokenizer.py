"""ByteTokenizer: raw bytes as tokens."""

import numpy as np

from eval.data.document import Document
from eval.tokenizers.base import check_side_car
from eval.tokenizers.byte_checks import location
from eval.types import Tokens
from ngrammix.checks import as_tokens


class ByteTokenizer:
    """Every byte is a token, with its value as id; any bytes can be encoded.

    Parameters
    ----------
    bos : int >= 0, optional
        Token before each document: 256, or one of the bytes.
    """

    name = "bytes"

    def __init__(self, bos: int | None = None) -> None:
        if bos is not None and bos < 0:
            raise ValueError(f"bos must be >= 0, got {bos}; 256 is the first id that is not a byte")
        self.bos = bos
        self.vocab_size = 256 if bos is None else max(256, bos + 1)

    def encode(self, document: Document) -> tuple[Tokens, Tokens]:
        """(tokens, bytes of each token), both (T,) int64; an id >= 256 has no bytes."""
        if document.tokens is None:
            tokens = np.frombuffer(document.raw or b"", np.uint8).astype(np.int64)
            return tokens, np.ones_like(tokens)
        tokens = as_tokens(document.tokens, self.vocab_size, f"tokens of {location(document)}")
        if document.token_bytes is not None:
            return tokens, check_side_car(document)
        return tokens, (tokens < 256).astype(np.int64)

    def decode_bytes(self, tokens: Tokens) -> bytes:
        """The bytes of tokens (T,), without ids >= 256."""
        return tokens[tokens < 256].astype(np.uint8).tobytes()
