"""Token ids in files: shards with a header, arrays without one, and ``.npy``."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.data.arrays import open_array
from eval.data.compression import compression_of
from ngrammix.checks import as_tokens
from ngrammix.reading import read_errors, read_start

HEADER = 256  # int32 words before the ids of a shard
# By the first word of the header: the second word, a version, and the dtype of the ids.
SHARDS = {
    20240520: (1, "<u2"),  # Parameter Golf, modded-nanogpt; GPT-2 in llm.c
    20240801: (7, "<u4"),  # Llama 3 in llm.c
}
# By the names that a user may give: uint16, u16, and u2 and <u2 of NumPy. Not u8, which is one byte
# to some and eight to NumPy.
DTYPES = (
    {f"{kind}{8 * n}": f"<{kind[0]}{n}" for kind in ("uint", "int") for n in (1, 2, 4, 8)}
    | {f"{kind}{8 * n}": f"<{kind}{n}" for kind in "ui" for n in (2, 4, 8)}
    | {f"{kind}{n}": f"<{kind}{n}" for kind in "ui" for n in (2, 4)}
    | {name: name for name in map("".join, product("<>", "ui", "1248"))}
)
SAMPLE = 1 << 16  # ids looked at for a wrong dtype
MIN_SAMPLE = 32


def parse_dtype(name: str) -> np.dtype[Any]:
    """The dtype of token ids that a user names; little-endian unless it says ``>``."""
    if name not in DTYPES:
        raise ValueError(
            f"token_dtype must be uint8, uint16, uint32, int32 or int64, got {name!r}; "
            "write >u2 for the other byte order"
        )
    return np.dtype(DTYPES[name])


def find_header(path: Path) -> tuple[list[int], str | None]:
    """(first two words of a file, dtype of its ids if they are those of a shard, else None).

    ValueError if there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"shard must be a file, got {path}; check the path")
    with read_errors(path):
        words = np.fromfile(path, dtype="<i4", count=2).tolist()
    version, dtype = SHARDS.get(words[0] if words else 0, (None, None))
    return words, dtype if words[1:] == [version] else None


def read_shard(path: str | Path, token_dtype: str | None = None) -> NDArray[np.integer]:
    """Token ids (T,) of a file of ids, memory-mapped; T >= 1.

    Parameters
    ----------
    path : path
        A shard, whose header gives the dtype, or the ids alone.
    token_dtype : str, optional
        Dtype of a file without a header.

    Raises
    ------
    ValueError
        If the file is missing, has neither a header nor a dtype or has both, or its size does not
        fit.
    """
    path = Path(path)
    words, dtype = find_header(path)
    if token_dtype is not None:
        named = parse_dtype(token_dtype)
        if dtype is not None:
            raise ValueError(
                f"token_dtype is for files without a header, got {token_dtype} for {path}, whose "
                f"header says {np.dtype(dtype).name}; leave it out"
            )
        return read_plain(path, named)
    if dtype is None:
        known = ", or ".join(f"{magic}, {version}" for magic, (version, _) in SHARDS.items())
        raise ValueError(
            f"shard must begin with {known}, got {words} in {path}; name the dtype of a file "
            "without a header with --token-dtype, such as uint16"
        )
    return read_body(path, np.dtype(dtype))


def read_body(path: Path, dtype: np.dtype[Any]) -> NDArray[np.integer]:
    """The ids after a header, as many as it says; ValueError if the size of the file differs."""
    with read_errors(path):
        header = np.fromfile(path, dtype="<i4", count=HEADER)
    n_tokens = int(header[2]) if len(header) == HEADER else 0
    if len(header) == HEADER and n_tokens < 1:
        raise ValueError(
            f"shard must hold at least one token, got {n_tokens} in {path}; leave it out"
        )
    expected = 4 * HEADER + dtype.itemsize * n_tokens
    if path.stat().st_size != expected:
        raise ValueError(
            f"shard of {n_tokens} tokens must have {expected} bytes, got "
            f"{path.stat().st_size} in {path}; it is cut short or damaged"
        )
    return np.memmap(path, dtype=dtype, mode="r", offset=4 * HEADER)


def read_plain(path: Path, dtype: np.dtype[Any]) -> NDArray[np.integer]:
    """The ids of a file without a header; ValueError if its size or ids do not fit the dtype."""
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise ValueError(
            f"a file of {dtype.name} must have a multiple of {dtype.itemsize} bytes, got {size} in "
            f"{path}; check --token-dtype, or whether the file is whole"
        )
    head = read_start(path, 16)
    kind = "a NumPy array (.npy)" if head.startswith(b"\x93NUMPY") else compression_of(head)
    if kind is not None:
        raise ValueError(
            f"a file of {dtype.name} must hold ids alone, got {kind} in {path}; give an array the "
            "suffix .npy, and decompress other files"
        )
    tokens: NDArray[np.integer] = np.memmap(path, dtype=dtype, mode="r")
    sample = np.asarray(tokens[:SAMPLE])
    for first, second in ((0, 1), (1, 0)):
        if len(sample) >= MIN_SAMPLE and is_upper_half(sample[first::2], sample[second::2]):
            raise ValueError(
                f"ids of {dtype.name} must not be the halves of wider ones, got at most "
                f"{sample[second::2].max()} at every second place of {path}; check --token-dtype"
            )
    return tokens


def is_upper_half(lower: NDArray[np.integer], upper: NDArray[np.integer]) -> bool:
    """Whether ids (N,) and their neighbours (N,) look like the halves of ids of twice the width."""
    return bool(upper.max() <= 3 and lower.max() > 3)  # 2^18 ids: no vocabulary has more


def open_integers(
    path: str | Path, name: str, token_dtype: str | None = None
) -> NDArray[np.integer]:
    """Integers (T,) of a ``.npy`` file, a shard or a file without a header; T >= 1.

    Raises
    ------
    ValueError
        If the file is missing or holds anything else. The error calls the file `name`.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".bin" or (token_dtype is not None and suffix != ".npy"):
        return read_shard(path, token_dtype)
    if suffix in (".pt", ".pth", ".pkl"):
        raise ValueError(
            f"{name} must not be a pickle, which can run code, got {path}; convert it where you "
            "trust it: numpy.save('FILE.npy', torch.load(path, weights_only=True).numpy())"
        )
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
    is_shard = Path(path).suffix.lower() == ".bin"
    tokens = read_shard(path) if is_shard else open_array(path, "tokens")
    return as_tokens(tokens, vocab_size, f"tokens in {path}")
