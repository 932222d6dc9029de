"""The checks of the face: rule, value, place and mend, before any state changes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ORDER = 32
MAX_VOCAB_SIZE = 2**31


def check_order(order: object) -> int:
    """Return `order` as int, or raise ValueError unless it is in 1..32."""
    if isinstance(order, bool) or not isinstance(order, int | np.integer):
        raise ValueError(f"order must be an integer in 1..{MAX_ORDER}, got {order!r}")
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(
            f"order must be in 1..{MAX_ORDER}, got {order}; "
            "it is the length of the longest n-gram, the predicted token included"
        )
    return int(order)


def check_vocab_size(vocab_size: object) -> int:
    """Return `vocab_size` as int, or raise ValueError unless it is in 1..2**31."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int | np.integer):
        raise ValueError(f"vocab_size must be an integer >= 1, got {vocab_size!r}")
    if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
        raise ValueError(f"vocab_size must be in 1..2**31, got {vocab_size}")
    return int(vocab_size)


def as_integers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return `values`, any shape, as int64, or raise ValueError; an empty list is integers."""
    array = np.asarray(values)
    if array.size > 0 and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integer token ids, got dtype {array.dtype}; "
            "cast them first if they really are ids"
        )
    if array.dtype == np.uint64 and array.size > 0 and array.max() > MAX_VOCAB_SIZE:
        raise ValueError(f"{name} must be below 2**31, got {array.max()}")
    return array.astype(np.int64)


def check_ids(
    ids: NDArray[np.int64], vocab_size: int, name: str, places: NDArray[np.int64] | None = None
) -> None:
    """Raise ValueError unless ids (N,) are in [0, V); places (N,) says where each one stands."""
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        i = int(np.argmax(outside))
        raise ValueError(
            f"{name} must be in [0, {vocab_size}), got {ids[i]} at position "
            f"{i if places is None else places[i]}; raise vocab_size or check the tokenizer"
        )


def as_tokens(
    tokens: ArrayLike, vocab_size: int, name: str = "tokens", *, may_be_empty: bool = False
) -> NDArray[np.int64]:
    """Return `tokens` as (T,) int64, or raise ValueError if they are no 1-D ids in [0, V)."""
    array = as_integers(tokens, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}; pass them in stream order")
    if array.size == 0 and not may_be_empty:
        raise ValueError(f"{name} must hold at least one token, got none")
    check_ids(array, vocab_size, name)
    return array
