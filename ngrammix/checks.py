"""Checks of arguments, before any state changes; each error names rule, value and remedy."""

import operator
import re
import sys
import warnings
from decimal import Decimal
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.types import Floats, Tokens

MAX_ORDER = 64
MAX_VOCAB_SIZE = 2**31
MAX_POSITION = 2**30 - 64  # the tables have 30 bits for the position of an n-gram
MAX_BYTES = 2**62
MAX_NATS = 1e290  # a higher cost is a probability of 0; the sum of MAX_POSITION costs is finite
# As GNU programs read them: K and KiB count by 1024, KB by 1000.
UNITS = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power
    for base, end in ((1000, "B"), (1024, "IB"), (1024, ""))
    for power, letter in enumerate("KMGT", start=1)
}
_SIZE = re.compile(r"(\d{1,19}(?:\.\d{1,9})?) ?(B?|[KMGT](?:I?B)?)")


class NotCopyable:
    """Base of classes with one state a stream, whose tables a copy would share and corrupt."""

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be copied or pickled; let a new one learn the tokens")


def warn_caller(text: str, category: type[Warning]) -> None:
    """Warn at the line outside this package that the call came from.

    A function that torch.compile leaves out is called through frames of torch.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals["__name__"].startswith(("ngrammix.", "torch.")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def as_int(value: object) -> int | None:
    """Return `value` as int if it is an integer of any type, else None; a bool is no integer."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def check_int(value: object, name: str, lowest: int, highest: int) -> int:
    """Return `value` as int, or raise ValueError unless it is an integer in lowest..highest."""
    number = as_int(value)
    if number is None or not lowest <= number <= highest:
        raise ValueError(
            f"{name} must be an integer in {lowest}..{highest}, got {value!r}; "
            "leave it out for the default"
        )
    return number


def check_flag(value: object, name: str) -> bool:
    """Return `value`, or raise ValueError unless it is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}; leave it out")
    return value


def check_order(order: object) -> int:
    """Return `order` as int, or raise ValueError unless it is in 1..64."""
    number = as_int(order)
    if number is None:
        raise ValueError(f"order must be an integer in 1..{MAX_ORDER}, got {order!r}; pass an int")
    if not 1 <= number <= MAX_ORDER:
        raise ValueError(
            f"order must be in 1..{MAX_ORDER}, got {order}; "
            "it is the length of the longest n-gram, the predicted token included"
        )
    return number


def check_vocab_size(vocab_size: object) -> int:
    """Return `vocab_size` as int, or raise ValueError unless it is in 1..2**31."""
    number = as_int(vocab_size)
    if number is None:
        raise ValueError(f"vocab_size must be an integer >= 1, got {vocab_size!r}; pass an int")
    if not 1 <= number <= MAX_VOCAB_SIZE:
        raise ValueError(
            f"vocab_size must be in 1..2**31, got {vocab_size}; it is the width of the logits"
        )
    return number


def check_threads(n_threads: object) -> int:
    """Return `n_threads` as int, or raise ValueError unless it is 1 or 2."""
    number = as_int(n_threads)
    if number not in (1, 2):
        raise ValueError(f"n_threads must be 1 or 2, got {n_threads!r}; the bits are the same")
    return number


def as_bytes(memory_limit: object) -> int:
    """Return a number of bytes, or a text such as "512 MiB", as int, or raise ValueError.

    ``2G`` and ``2GiB`` are 2 * 1024**3 bytes, ``2GB`` are 2 * 1000**3.
    """
    size = as_int(memory_limit)
    if isinstance(memory_limit, str) and (match := _SIZE.fullmatch(memory_limit.strip().upper())):
        size = int(Decimal(match[1]) * UNITS[match[2]])
    if size is None or not 0 < size < MAX_BYTES:
        raise ValueError(
            f"memory_limit must be a number of bytes > 0, got {memory_limit!r}; "
            'pass an int, or text such as "2GiB" (2G: the same; 2GB: by 1000)'
        )
    return size


def check_capacity(position: int, n_tokens: int) -> None:
    """Raise ValueError if a cache at `position` cannot take `n_tokens` more."""
    if position + n_tokens > MAX_POSITION:
        raise ValueError(
            f"a cache learns at most {MAX_POSITION} tokens, got {n_tokens} after {position}; "
            "start a new one"
        )


def as_integers(values: ArrayLike, name: str, what: str = "token ids") -> Tokens:
    """Return `values` of any shape as int64, or raise ValueError; an empty list is accepted."""
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
    ids: Tokens, vocab_size: int, name: str, positions: NDArray[np.int64] | None = None
) -> None:
    """Raise ValueError unless ids (N,) are in [0, V).

    positions (N,): the position of each id that the error reports; by default its index.
    """
    is_outside = (ids < 0) | (ids >= vocab_size)
    if is_outside.any():
        i = int(np.argmax(is_outside))
        is_mark = name == "targets" and ids[i] < 0
        mend = f"pass ignore_index={ids[i]} if" if is_mark else "raise vocab_size or check"
        rest = "it marks targets that do not count" if is_mark else "the tokenizer"
        raise ValueError(
            f"{name} must be in [0, {vocab_size}), got {ids[i]} at position "
            f"{i if positions is None else positions[i]}; {mend} {rest}"
        )


def as_tokens(
    tokens: ArrayLike, vocab_size: int, name: str = "tokens", *, may_be_empty: bool = False
) -> Tokens:
    """Return `tokens` as (T,) int64, or raise ValueError unless they are 1-D ids in [0, V)."""
    array = as_integers(tokens, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}; pass them in stream order")
    if array.size == 0 and not may_be_empty:
        raise ValueError(f"{name} must hold at least one token, got none; skip empty pieces")
    check_ids(array, vocab_size, name)
    return array


def as_nats(
    values: ArrayLike, name: str, shape: tuple[int, ...], positions: NDArray[np.int64]
) -> Floats:
    """Return `values` at positions (N,) of their C order: (N,) float64, nats.

    ValueError unless they have `shape`, and are in [0, MAX_NATS) at those positions.
    """
    array = np.asarray(values)
    if array.dtype.kind != "f" or array.shape != shape:
        raise ValueError(
            f"{name} must be floating point and of shape {shape}, that of targets, got dtype "
            f"{array.dtype} and shape {array.shape}; pass one number a target, in nats"
        )
    nats: Floats = array.reshape(-1)[positions].astype(np.float64)
    is_wrong = ~((nats >= 0) & (nats < MAX_NATS))
    if is_wrong.any():
        i = int(np.argmax(is_wrong))
        raise ValueError(
            f"{name} must be >= 0 and below {MAX_NATS:g}, got {nats[i]} at position "
            f"{positions[i]}; it is in nats and positive: -log p"
        )
    return nats


def as_token(next_token: int, vocab_size: int) -> Tokens:
    """Return `next_token` as (1,) int64, or raise ValueError unless it is one id in [0, V)."""
    array = as_integers(next_token, "next_token")
    if array.ndim != 0:
        raise ValueError(f"next_token must be one integer, got shape {array.shape}; pass an int")
    check_ids(array[None], vocab_size, "next_token")
    return array[None]
