"""Model: the interface that scoring needs of a language model."""

from typing import Any, Protocol

from eval.tokenizers.base import Tokenizer
from eval.types import Tokens


class Model(Protocol):
    """The interface of a language model."""

    @property
    def name(self) -> str:
        """Name in the signature, with a hash of the weights."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def context(self) -> int:
        """Largest T of `logits`."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model, with ids below V."""

    def logits(self, tokens: Tokens) -> Any:
        """Logits (B, T, V) for tokens (B, T): row t is for token t + 1."""
