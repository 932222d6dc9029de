"""Bits per byte: the one place where nats become bits and meet the raw bytes."""

import math

import numpy as np
from numpy.typing import NDArray

from eval.data import Document


def bits(nats: float) -> float:
    """Bits from nats."""
    return nats / math.log(2)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Bits per byte of a text of `n_bytes` raw bytes whose tokens cost `nats` in all."""
    return bits(nats) / n_bytes


def check_token_bytes(token_bytes: NDArray[np.int64], document: Document) -> None:
    """Raise ValueError unless the bytes of the tokens (T,) sum to the document's raw bytes.

    A wrong denominator is the commonest error of published BPB: bytes counted twice, dropped, or
    normalised away by the tokenizer. Nothing is scored against a text that is not the user's.
    """
    total = int(token_bytes.sum())
    if total != len(document.raw):
        raise ValueError(
            f"token bytes must sum to the raw bytes, got {total} for {len(document.raw)} in "
            f"{document.name}; the tokenizer does not spell this text losslessly"
        )
