"""Memory-mapped arrays of ``.npy`` files, such as saved logits."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from ngrammix.reading import read_errors


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
    with read_errors(path):
        array = map_array(path, name)
    if (n_left := path.stat().st_size - array.offset - array.nbytes) > 0 and array.size:
        raise ValueError(
            f"{name} must end with the array, got {n_left} bytes after it in {path}; save one "
            "array with numpy.save"
        )
    result: NDArray[Any] = array
    return result


def map_array(path: Path, name: str) -> Any:
    """The mapped array; the errors of NumPy become a ValueError, those of the system stay."""
    try:
        with np.errstate(over="ignore"):  # of a shape beyond any file
            return open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # NumPy raises many kinds: the header is a literal of Python
        raise ValueError(
            f"{name} must be a whole .npy file of numbers, got {path}; "
            "save one array with numpy.save"
        ) from error


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


def refuse_shrunk(array: NDArray[Any]) -> None:
    """Raise ValueError if the file of a mapped array is shorter than when it was opened."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return
    n_bytes, path = array.offset + array.nbytes, Path(array.filename)
    with read_errors(path):
        size = path.stat().st_size
    if size < n_bytes:  # to read on would end the process
        raise ValueError(
            f"data must stay as they are while they are read, got {size} bytes instead of "
            f"{n_bytes} in {path}; write to another file"
        )
