"""What is scored: documents of raw bytes, streams of token ids, and saved logits."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ngrammix.checks import as_tokens

SHARD_HEADER = 256  # int32 words
SHARD_MAGIC, SHARD_VERSION = 20240520, 1


@dataclass(frozen=True)
class Document:
    """Raw bytes under a name; nothing was decoded, normalised or dropped."""

    name: str
    raw: bytes


def read_documents(paths: Iterable[str | Path]) -> list[Document]:
    """Each file as one document, byte for byte.

    Raises
    ------
    ValueError
        If a file is missing, no file, or empty.
    """
    documents = []
    for path in map(Path, paths):
        if path.is_dir() or not path.exists():  # a pipe is as good as a file
            what = "a folder" if path.is_dir() else "missing"
            raise ValueError(f"text must be a file, got {path}, which is {what}; check the path")
        raw = path.read_bytes()
        if not raw:
            raise ValueError(f"text must hold at least one byte, got the empty file {path}")
        documents.append(Document(str(path), raw))
    return documents


def sha256(documents: Sequence[Document]) -> str:
    """Hash of the documents' bytes in order, each preceded by its length: 64 hex digits."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(len(document.raw).to_bytes(8, "little"))
        digest.update(document.raw)
    return digest.hexdigest()


def read_shard(path: str | Path) -> NDArray[np.uint16]:
    """Token ids of a Parameter Golf shard: (T,) uint16.

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
    return np.fromfile(path, dtype="<u2", offset=4 * SHARD_HEADER)


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


def tokens_sha256(tokens: NDArray[np.int64]) -> str:
    """Hash of token ids, 8 little-endian bytes each: 64 hex digits."""
    return hashlib.sha256(tokens.astype("<i8").tobytes()).hexdigest()
