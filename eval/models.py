"""The models that can be scored: what turns text into tokens, and tokens into logits."""

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eval.data import Document


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
    def bos(self) -> int:
        """Token that stands before the first one of a document; never scored."""

    def encode(self, document: Document) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens, bytes of each token), both (T,) int64; ValueError if it cannot be spelled."""

    def logits(self, tokens: NDArray[np.int64]) -> Any:
        """Logits (B, T, V) of the token after each of tokens (B, T), T <= context."""


def decode_utf8(document: Document) -> str:
    """Text of the document, or ValueError with the first byte that is not UTF-8."""
    try:
        return document.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text must be UTF-8 for this model, got byte 0x{document.raw[error.start]:02x} at "
            f"{error.start} in {document.name} ({error.reason}); convert the file, or score its "
            "raw bytes with --model none"
        ) from error


@dataclass(frozen=True, eq=False)
class DemoModel:
    """The embedded model of `eval.demo`, with its byte-level BPE."""

    name: str
    vocab_size: int
    context: int
    bos: int
    network: Any
    tokenizer: Any
    token_bytes: NDArray[np.int64]

    def encode(self, document: Document) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(tokens, bytes of each token), both (T,) int64; the document must be UTF-8."""
        encoding = self.tokenizer.encode(decode_utf8(document))
        tokens = np.array(encoding.ids, dtype=np.int64)
        return tokens, self.token_bytes[tokens]

    def logits(self, tokens: NDArray[np.int64]) -> Any:
        """Logits (B, T, V) float32 tensor of the token after each of tokens (B, T)."""
        import torch

        with torch.no_grad():
            return self.network(torch.from_numpy(tokens))


@cache
def load_demo() -> DemoModel:
    """The embedded model; ValueError if its files are missing from the installation."""
    from tokenizers import Tokenizer

    from eval.demo.model import TOKENIZER_PATH, WEIGHTS_PATH, load_model

    for path in (TOKENIZER_PATH, WEIGHTS_PATH):
        if not path.is_file():
            raise ValueError(f"the demo needs {path.name}, which is missing; install ngrammix anew")
    name = f"demo-{sha256(WEIGHTS_PATH.read_bytes()).hexdigest()[:8]}"
    return wrap_demo(load_model(), Tokenizer.from_file(str(TOKENIZER_PATH)), name)


def wrap_demo(network: Any, tokenizer: Any, name: str) -> DemoModel:
    """The network of eval.demo.model and its byte-level BPE tokenizer as a model to score."""
    token_bytes = np.zeros(network.config.vocab_size, np.int64)
    for token, i in tokenizer.get_vocab().items():
        token_bytes[i] = len(token)  # byte-level BPE: each letter of a token stands for one byte
    token_bytes[network.config.bos] = 0  # marks a beginning, spells nothing
    return DemoModel(
        name=name,
        vocab_size=network.config.vocab_size,
        context=network.config.context,
        bos=network.config.bos,
        network=network,
        tokenizer=tokenizer,
        token_bytes=token_bytes,
    )
