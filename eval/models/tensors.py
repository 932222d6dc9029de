"""Tensors and arrays by the hash of their bytes."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

THREADS = 4  # each holds one tensor of a GPU in memory


def is_module(network: Any) -> bool:
    """Whether the object is a torch module."""
    import torch

    return isinstance(network, torch.nn.Module)


def is_array(value: Any) -> bool:
    """Whether the object is a tensor or an array, with values and without objects."""
    import torch

    if isinstance(value, torch.Tensor):
        return not value.is_meta
    return isinstance(value, np.ndarray) and not value.dtype.hasobject


def hash_array(array: Any) -> str:
    """The SHA-256 of the bytes of a tensor or an array, in C order and little-endian."""
    if not isinstance(array, np.ndarray):
        import torch

        flat = array.detach().cpu().contiguous().reshape(-1)
        # NumPy lacks some dtypes of torch: an integer of the same width has the same bytes.
        array = flat.view(getattr(torch, f"int{8 * min(flat.itemsize, 8)}")).numpy()
    return hashlib.sha256(little_endian(array).data).hexdigest()


def little_endian(array: Any) -> Any:
    """The array in C order, with the lowest byte of each number first."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def hash_tensors(tensors: Mapping[str, Any]) -> list[str]:
    """Name, dtype, shape and hash of each tensor, sorted by name; a tied one is hashed once."""
    keys = {
        name: (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        for name, value in sorted(tensors.items())
        if hasattr(value, "data_ptr")
    }
    distinct = {key: tensors[name] for name, key in keys.items()}
    with ThreadPoolExecutor(THREADS) as pool:  # hashing releases the GIL
        hashes = dict(zip(distinct, pool.map(hash_array, distinct.values()), strict=True))
    return [f"{name} {key[1]} {key[2]} {hashes[key]}" for name, key in keys.items()]
