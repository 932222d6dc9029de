"""Quantized tensors, and arrays beside them, in one small file; loading gives the same bits.

The content is that of a safetensors file: codes as ``NAME:codes``, side arrays as ``NAME:ARRAY``,
any other array as ``NAME``, and in its metadata, as ``ngrammix``, JSON of what each tensor is. It
is compressed in pieces, the header and then all arrays of a dtype together: zstd and brotli make
one stream of all codes no larger than one for each tensor. `quant.io.container` writes the file.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from quant.base.config import check_int
from quant.io.compress import compress
from quant.io.container import check_size, damaged, read, write
from quant.io.records import Plain, Quantized, describe, from_json

Arrays = dict[str, NDArray[Any]]

METADATA = "__metadata__"
KEY = "ngrammix"
MAX_HEADER = 1 << 24  # bytes of JSON
MAX_BYTES = 1 << 31


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    *,
    packed: bool = False,
    codec: str = "best",
) -> int:
    """Bytes of the file that holds the tensors from now on.

    A file of that name is replaced once the new one is whole.

    Parameters
    ----------
    path : path
    tensors : dict of QuantizedTensor, arrays, and tensors of torch
        By name; arrays are stored as they are.
    packed : bool
        Whether codes lie without gaps. What is compressed is smaller without: leave it False
        unless codec is "none".
    codec : "best", "none", "zstd", "brotli" or "lzma"
        "best" takes for each piece the smallest that those installed make of it.

    Raises
    ------
    ValueError
        If a tensor is of another kind or could not be loaded again, two names clash, or the codec
        is unknown or missing.
    """
    arrays: Arrays = {}
    index = {}
    for name, tensor in tensors.items():
        if type(name) is not str:
            raise ValueError(f"names must be strings, got {name!r}; convert it")
        try:
            record, parts = describe(tensor, is_packed=packed)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        index[name] = record.to_json()
        for part, array in parts.items():
            stored = full_name(name, part)
            if stored in arrays or stored == METADATA:
                raise ValueError(
                    f"names in a file must differ, got {stored!r} again; rename the tensor"
                )
            arrays[stored] = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    raw = save_safetensors(arrays, {KEY: json.dumps(index)})
    pieces = [compress(piece, codec, itemsize=itemsize) for piece, itemsize in cut(raw, arrays)]
    return write(Path(path), pieces)


def load(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The tensors that were saved, by name and in their order.

    Parameters
    ----------
    path : path
    max_bytes : int >= 0
        Most bytes that the file may have; most, too, that its content, its codes and all its
        weights as float32 may take together. What would be more is refused before it is allocated.

    Raises
    ------
    ValueError
        If it is too much, or the file is missing, of another kind or version, cut short, longer
        than it was, altered by a bit, or of a codec that is not installed.
    """
    check_int(max_bytes, "max_bytes", 0, sys.maxsize)
    path = Path(path)
    raw = read(path, max_bytes)
    with refused(path):
        records = {name: from_json(its) for name, its in read_index(raw).items()}
    check_size(path, len(raw) + sum(record.n_bytes for record in records.values()), max_bytes)
    with refused(path):
        arrays = load_safetensors(raw)
        tensors = {name: restore(name, record, arrays) for name, record in records.items()}
        if arrays:
            raise ValueError(f"{', '.join(arrays)} of no tensor")
    return tensors


def restore(name: str, record: Plain | Quantized, arrays: Arrays) -> Any:
    """The tensor, whose arrays are taken out of `arrays`."""
    try:
        return record.restore({part: arrays.pop(full_name(name, part)) for part in record.parts})
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def full_name(name: str, part: str) -> str:
    """Name of an array in the file; a tensor that is one array has no parts."""
    return f"{name}:{part}" if part else name


def cut(raw: bytes, arrays: Arrays) -> Iterator[tuple[bytes, int]]:
    """(piece, bytes of its items): the header of safetensors, then all arrays of each dtype."""
    header = read_header(raw)
    header.pop(METADATA)
    spans = {name: its["data_offsets"] for name, its in header.items()}
    start = len(raw) - max((end for _, end in spans.values()), default=0)
    yield raw[:start], 1
    in_order = sorted(spans, key=lambda name: spans[name])
    for dtype, run in groupby(in_order, key=lambda name: arrays[name].dtype):
        names = list(run)
        begin, end = spans[names[0]][0], spans[names[-1]][1]
        yield raw[start + begin : start + end], dtype.itemsize


def read_index(raw: bytes) -> dict[str, Any]:
    """What the file says of each tensor, unchecked; an error of any kind if it says nothing."""
    return dict(json.loads(read_header(raw)[METADATA][KEY]))


def read_header(raw: bytes) -> dict[str, Any]:
    """Header of safetensors, unchecked; an error of any kind if there is none."""
    n_header = int.from_bytes(raw[:8], "little")
    if n_header > MAX_HEADER:
        raise ValueError(f"a header of {n_header} bytes, more than {MAX_HEADER}")
    return dict(json.loads(raw[8 : 8 + n_header]))


@contextmanager
def refused(path: Path) -> Iterator[None]:
    """What is raised while content is put to use means that `save` did not write it."""
    try:
        yield
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        what = error if isinstance(error, ValueError) else repr(error)
        raise damaged(path, what) from error
