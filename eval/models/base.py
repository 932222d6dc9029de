"""Model: the interface that scoring needs of a language model."""

from typing import Any, Protocol

from eval.tokenizers.base import Tokenizer
from eval.types import Tokens


class Model(Protocol):
    """What the workbench asks of a language model."""

    @property
    def name(self) -> str:
        """Name for the signature, with a hash of the weights."""

    @property
    def vocab_size(self) -> int:
        """V."""

    @property
    def context(self) -> int:
        """The most tokens that `logits` takes at once."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What turns documents into tokens; its ids are below V."""

    def logits(self, tokens: Tokens) -> Any:
        """Logits (B, T, V) of the token after each of tokens (B, T), T <= context."""
