"""Memory-mapped arrays: token shards, ``.npy`` tokens, saved logits."""

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
    """Token ids (T,) uint16 of a Parameter Golf shard, memory-mapped; T >= 1.

    Raises
    ------
    ValueError
        If the file is missing, its header is not that of a shard, or its size differs from the
        size in the header.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"shard must be a file, got {path}; check the path")
    header = np.fromfile(path, dtype="<i4", count=SHARD_HEADER)
    if len(header) < SHARD_HEADER or header[0] != SHARD_MAGIC or header[1] != SHARD_VERSION:
        raise ValueError(
            f"shard must begin with {SHARD_MAGIC}, {SHARD_VERSION}, got "
            f"{header[:2].tolist()} in {path}; name a token shard"
        )
    if header[2] < 1:
        raise ValueError(
            f"shard must hold at least one token, got {header[2]} in {path}; leave it out"
        )
    expected = 4 * SHARD_HEADER + 2 * int(header[2])
    if path.stat().st_size != expected:
        raise ValueError(
            f"shard of {header[2]} tokens must have {expected} bytes, got "
            f"{path.stat().st_size} in {path}; it is cut short or damaged"
        )
    return np.memmap(path, dtype="<u2", mode="r", offset=4 * SHARD_HEADER)


def open_array(path: str | Path, name: str) -> NDArray[Any]:
    """The array of a ``.npy`` file, memory-mapped; pickled objects are refused.

    Raises
    ------
    ValueError
        If the file is missing or truncated, or holds no array of numbers. The error calls the file
        `name`.
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
    """Integers (T,) of a ``.bin`` shard or a ``.npy`` file, memory-mapped; T >= 1.

    Raises
    ------
    ValueError
        If the file is missing or holds anything else. The error calls the file `name`.
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
            f"{name} must be a 1-D array of at least one, got shape {array.shape} in {path}; "
            "save them in stream order"
        )
    return array


def read_tokens(path: str | Path, vocab_size: int) -> NDArray[np.int64]:
    """Token ids (T,) int64 in [0, V) of a ``.npy`` file or a ``.bin`` shard; T >= 1.

    Raises
    ------
    ValueError
        If the file is missing, is in neither format, or an id is not in [0, V).
    """
    is_shard = Path(path).suffix == ".bin"
    tokens = read_shard(path) if is_shard else open_array(path, "tokens")
    return as_tokens(tokens, vocab_size, f"tokens in {path}")


def open_logits(path: str | Path) -> NDArray[Any]:
    """Saved logits (T, V) float16, float32 or float64, memory-mapped; T, V >= 1.

    Raises
    ------
    ValueError
        If the file is missing or holds anything else.
    """
    logits = open_array(path, "logits")
    if logits.dtype.kind != "f" or logits.itemsize > 8:
        raise ValueError(
            f"logits must be float16, float32 or float64, got {logits.dtype} in {path}; "
            "save the output of the model in one of these dtypes"
        )
    if logits.ndim != 2 or logits.size == 0:
        raise ValueError(
            f"logits must have shape (tokens, vocabulary), got {logits.shape} in {path}; "
            "save one row per token, in stream order"
        )
    return logits
