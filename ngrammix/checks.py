"""The checks of the face: rule, value, place and mend, before any state changes."""

import re
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ORDER = 32
MAX_VOCAB_SIZE = 2**31
MAX_POSITION = 2**30 - 64  # an n-gram has 30 bits for where it was last seen
MAX_BYTES = 2**62
UNITS = {"B": 1} | {
    f"{letter}{infix}B": base**power
    for base, infix in ((1000, ""), (1024, "I"))
    for power, letter in enumerate("KMGT", start=1)
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?(B|[KMGT]I?B)")


class NotCopyable:
    """A stream has one state: a copy that shares its tables would corrupt both."""

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be copied or pickled; let a new one learn the tokens")


def check_order(order: object) -> int:
    """Return `order` as int, or raise ValueError unless it is in 1..32."""
    if isinstance(order, bool) or not isinstance(order, int | np.integer):
        raise ValueError(f"order must be an integer in 1..{MAX_ORDER}, got {order!r}; pass an int")
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(
            f"order must be in 1..{MAX_ORDER}, got {order}; "
            "it is the length of the longest n-gram, the predicted token included"
        )
    return int(order)


def check_vocab_size(vocab_size: object) -> int:
    """Return `vocab_size` as int, or raise ValueError unless it is in 1..2**31."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int | np.integer):
        raise ValueError(f"vocab_size must be an integer >= 1, got {vocab_size!r}; pass an int")
    if not 1 <= vocab_size <= MAX_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size must be in 1..2**31, got {vocab_size}; it is the width of the logits"
        )
    return int(vocab_size)


def check_integer(value: object, name: str, lowest: int, highest: int) -> int:
    """Return `value` as int, or raise ValueError unless it is an integer in lowest..highest."""
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or not lowest <= value <= highest:  # type: ignore[operator]
        raise ValueError(
            f"{name} must be an integer in {lowest}..{highest}, got {value!r}; "
            "leave it out for the default"
        )
    return int(value)  # type: ignore[call-overload,no-any-return]


def check_threads(n_threads: object) -> int:
    """Return `n_threads` as int, or raise ValueError unless it is 1 or 2."""
    if isinstance(n_threads, bool) or n_threads not in (1, 2):
        raise ValueError(f"n_threads must be 1 or 2, got {n_threads!r}; the bits are the same")
    return int(n_threads)


def as_bytes(memory_limit: object) -> int:
    """Return a size in bytes, given so or as text such as "512 MiB", or raise ValueError."""
    size = memory_limit
    if isinstance(size, str) and (match := _SIZE.fullmatch(size.strip().upper())):
        size = int(float(match[1]) * UNITS[match[2]])
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not 0 < size < MAX_BYTES:
        raise ValueError(
            f"memory_limit must be a number of bytes > 0, got {memory_limit!r}; "
            'pass an int, or text such as "2GiB"'
        )
    return int(size)


def check_capacity(position: int, n_tokens: int) -> None:
    """Raise ValueError if `n_tokens` after `position` are more than a cache can number."""
    if position + n_tokens > MAX_POSITION:
        raise ValueError(
            f"a cache learns at most {MAX_POSITION} tokens, got {n_tokens} after {position}; "
            "start a new one"
        )


def as_integers(values: ArrayLike, name: str, what: str = "token ids") -> NDArray[np.int64]:
    """Return `values`, any shape, as int64, or raise ValueError; an empty list is integers."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:  # ragged lists, tensors on another device
        raise ValueError(f"{name} must be one array of integer {what}; {error}") from error
    if array.size > 0 and array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integer {what}, got dtype {array.dtype}; "
            f"cast them first if they really are {what}"
        )
    if array.dtype == np.uint64 and array.size > 0 and array.max() >= MAX_VOCAB_SIZE:
        raise ValueError(
            f"{name} must be below 2**31, got {array.max()} at position {array.argmax()}; "
            "check the tokenizer"
        )
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
        raise ValueError(f"{name} must hold at least one token, got none; skip empty pieces")
    check_ids(array, vocab_size, name)
    return array


def as_nats(
    values: ArrayLike, name: str, shape: tuple[int, ...], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return those of `values` at `places` (N,) of their C order, or raise ValueError.

    They must have `shape`, and be numbers >= 0 and below infinity at the places.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.shape != shape:
        raise ValueError(
            f"{name} must be floating point and of shape {shape}, that of targets, got dtype "
            f"{array.dtype} and shape {array.shape}; pass one number a target, in nats"
        )
    nats: NDArray[np.float64] = array.reshape(-1)[places].astype(np.float64)
    wrong = ~((nats >= 0) & (nats < np.inf))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be >= 0 and finite, got {nats[i]} at position {places[i]}; "
            "it is in nats and positive: -log p"
        )
    return nats


def as_token(next_token: int, vocab_size: int) -> NDArray[np.int64]:
    """Return `next_token` as (1,) int64, or raise ValueError if it is no single id in [0, V)."""
    array = as_integers(next_token, "next_token")
    if array.ndim != 0:
        raise ValueError(f"next_token must be one integer, got shape {array.shape}; pass an int")
    check_ids(array[None], vocab_size, "next_token")
    return array[None]
