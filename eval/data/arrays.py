"""Arrays in files, mapped into memory: token shards, ``.npy`` tokens, saved logits."""

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ngrammix.checks import as_tokens

SHARD_HEADER = 256  # int32 words
SHARD_MAGIC, SHARD_VERSION = 20240520, 1


def read_shard(path: str | Path) -> NDArray[np.uint16]:
    """Token ids of a Parameter Golf shard, mapped into memory: (T,) uint16, T >= 1.

    Raises
    ------
    ValueError
        If the file is missing, its header is not that of a shard, or its size is not what the
        header says.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"shard must be a file, got {path}; check the path")
    header = np.fromfile(path, dtype="<i4", count=SHARD_HEADER)
    if len(header) < SHARD_HEADER or header[0] != SHARD_MAGIC or header[1] != SHARD_VERSION:
        raise ValueError(
            f"shard must begin with {SHARD_MAGIC}, {SHARD_VERSION}, got "
            f"{header[:2].tolist()} in {path}; is it a token shard?"
        )
    if header[2] < 1:
        raise ValueError(f"shard must hold at least one token, got {header[2]} in {path}; drop it")
    expected = 4 * SHARD_HEADER + 2 * int(header[2])
    if path.stat().st_size != expected:
        raise ValueError(
            f"shard of {header[2]} tokens must have {expected} bytes, got "
            f"{path.stat().st_size} in {path}; it is cut short or damaged"
        )
    return np.memmap(path, dtype="<u2", mode="r", offset=4 * SHARD_HEADER)


def open_array(path: str | Path, name: str) -> NDArray[Any]:
    """Array of a ``.npy`` file, mapped into memory and read as it is used; never a pickle.

    Raises
    ------
    ValueError
        If the file, `name` to the user, is missing, cut short, or holds no array of numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{name} must be a file, got {path}; check the path")
    try:
        return open_memmap(path, mode="r")
    except (ValueError, TypeError, OverflowError, SyntaxError, TokenError) as error:
        raise ValueError(
            f"{name} must be a whole .npy file of numbers, got {path}; "
            "save one array with numpy.save"
        ) from error


def open_integers(path: str | Path, name: str) -> NDArray[Any]:
    """Integers (T,) of a shard ``.bin`` or of a ``.npy`` file, mapped into memory; T >= 1.

    Raises
    ------
    ValueError
        If the file, `name` to the user, is missing or holds anything else.
    """
    if Path(path).suffix == ".bin":
        return read_shard(path)
    array = open_array(path, name)
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be integers, got {array.dtype} in {path}; save them as integers"
        )
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} must be one row of at least one, got shape {array.shape} in {path}; "
            "save them 1-D, in stream order"
        )
    return array


def read_tokens(path: str | Path, vocab_size: int) -> NDArray[np.int64]:
    """Token ids (T,) int64, each in [0, V), of a ``.npy`` file or of a ``.bin`` shard; T >= 1.

    Raises
    ------
    ValueError
        If the file is missing, is none of the two, or its ids are not in [0, V).
    """
    is_shard = Path(path).suffix == ".bin"
    tokens = read_shard(path) if is_shard else open_array(path, "tokens")
    return as_tokens(tokens, vocab_size, f"tokens in {path}")


def open_logits(path: str | Path) -> NDArray[Any]:
    """Saved logits (T, V), float16, float32 or float64, mapped into memory; V and T are >= 1.

    Raises
    ------
    ValueError
        If the file is missing or holds anything else.
    """
    logits = open_array(path, "logits")
    if logits.dtype.kind != "f" or logits.itemsize > 8:
        raise ValueError(
            f"logits must be float16, float32 or float64, got {logits.dtype} in {path}; "
            "save the model's output as one of them"
        )
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(
            f"logits must have shape (tokens, vocabulary), got {logits.shape} in {path}; "
            "save one row a token, in stream order"
        )
    return logits
