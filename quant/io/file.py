"""Save quantized tensors, and arrays beside them, in one small file; loading gives the same bits.

The content is a safetensors file: codes as ``NAME:codes``, side arrays as ``NAME:ARRAY``, any other
array as ``NAME``; its metadata has, under ``ngrammix``, a JSON record of each tensor. The content
is cut into its header and one piece for each dtype, which are compressed by `quant.io.container`.
zstd and brotli compress all codes together to no more bytes than each tensor alone.
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
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from ngrammix.atomic import replaced, target_of
from ngrammix.reading import read_errors, shown, unique_names
from quant.base.config import check_int
from quant.io.container import compress_pieces, decompress
from quant.io.records import QuantizedRecord, RawRecord, record_from_json, to_record
from quant.types import Array

Arrays = dict[str, Array]

METADATA = "__metadata__"
KEY = "ngrammix"
MIN_HEADER, MAX_HEADER, HEADER_SHARE = 1 << 20, 1 << 24, 64  # bytes of JSON; see `max_header`
MAX_TEXT = 500  # characters of a reason in an error
MAX_BYTES = 1 << 31


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Any],
    *,
    packed: bool = False,
    codec: str = "best",
    progress: bool = False,
) -> None:
    """Save tensors in one compressed file.

    A file of that name is replaced once the new one is complete. A link stays, and what it leads to
    is replaced.

    Parameters
    ----------
    path : path
    tensors : dict of QuantizedTensor, numpy arrays and torch tensors
        By name. Arrays and torch tensors are stored unchanged.
    packed : bool
        Whether to pack codes without gaps. A compressed file is for the most part smaller without
        packing: leave it False unless codec is "none".
    codec : "best", "none", "zstd", "brotli" or "lzma"
        "best" takes, for each piece, the smallest result of all codecs that are installed.
    progress : bool
        Show a progress bar of the compression on stderr.

    Raises
    ------
    ValueError
        If a tensor is of another kind or could not be loaded again, two names clash, the codec is
        unknown or not installed, or the file cannot be written.
    """
    arrays: Arrays = {}
    index = {}
    for name, tensor in tensors.items():
        if type(name) is not str:
            raise ValueError(f"names must be strings, got {name!r}; convert it")
        try:
            record, parts = to_record(tensor, is_packed=packed)
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
    content = compress_pieces(cut(raw, arrays), codec, progress=progress)
    with replaced(target_of(path), "quantized tensors") as file:
        file.write(content)


def load(path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Load the tensors of a file, by name and in the order that they were saved in.

    Parameters
    ----------
    path : path
    max_bytes : int >= 0
        Most bytes of the file; also the most bytes of its content, its codes and all its weights as
        float32 together. A file that needs more is refused before they are allocated. Loading takes
        at most 3 times as much memory, and 256 MiB.

    Raises
    ------
    ValueError
        If the file needs more than `max_bytes`, is missing, of another kind or version, cut short,
        longer than it was, altered by a bit, or of a codec that is not installed.
    """
    max_bytes = check_int(max_bytes, "max_bytes", 0, sys.maxsize)
    path = Path(path)
    raw = read_content(path, max_bytes)
    with content_errors(path):
        index = read_index(raw, max_header(max_bytes))
        records = {name: record_from_json(values) for name, values in index.items()}
    needed = len(raw) + sum(record.n_extra_bytes for record in records.values())
    check_size(path, needed, max_bytes)
    with content_errors(path):
        arrays = load_safetensors(raw)
        tensors = {name: restore(name, record, arrays) for name, record in records.items()}
        if arrays:
            raise ValueError(f"{', '.join(arrays)} of no tensor")
    return tensors


def read_content(path: Path, max_bytes: int) -> bytes:
    """The safetensors file inside; neither it nor the file is longer than `max_bytes`."""
    with read_errors(path):
        if not path.is_file():
            raise ValueError(f"quantized tensors must be a file, got {path}; check the path")
        size = path.stat().st_size
        check_size(path, size, max_bytes)
        with path.open("rb") as file:
            blob = file.read(size)  # no more, if the file grows meanwhile
    try:
        return decompress(blob, max_bytes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def restore(name: str, record: RawRecord | QuantizedRecord, arrays: Arrays) -> Any:
    """The tensor of a record; its arrays are removed from `arrays`."""
    parts = {part: arrays.pop(full_name(name, part)) for part in record.array_names}
    try:
        return record.to_tensor(parts)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def full_name(name: str, part: str) -> str:
    """Name of an array in the file; the only array of an unquantized tensor has no part."""
    return f"{name}:{part}" if part else name


def cut(raw: bytes, arrays: Arrays) -> Iterator[tuple[bytes, int]]:
    """(piece, bytes of an item): the header of safetensors, then all arrays of each dtype."""
    header = read_header(raw)
    header.pop(METADATA)
    spans = {name: entry["data_offsets"] for name, entry in header.items()}
    start = len(raw) - max((end for _, end in spans.values()), default=0)
    yield raw[:start], 1
    in_order = sorted(spans, key=lambda name: spans[name])
    for dtype, group in groupby(in_order, key=lambda name: arrays[name].dtype):
        names = list(group)
        begin, end = spans[names[0]][0], spans[names[-1]][1]
        yield raw[start + begin : start + end], dtype.itemsize


def max_header(max_bytes: int) -> int:
    """Most bytes of a header in JSON: in memory, JSON can take 30 times as much."""
    return min(max(MIN_HEADER, max_bytes // HEADER_SHARE), MAX_HEADER)


def read_index(raw: bytes, limit: int = MAX_HEADER) -> dict[str, Any]:
    """Records of a safetensors file as JSON, unchecked; an error of any kind if it has none."""
    records = json.loads(read_header(raw, limit)[METADATA][KEY], object_pairs_hook=unique_names)
    return dict(records)


def read_header(raw: bytes, limit: int = MAX_HEADER) -> dict[str, Any]:
    """Header of a safetensors file, unchecked; an error of any kind if it has none."""
    n_header = int.from_bytes(raw[:8], "little")
    if n_header > limit:
        raise ValueError(f"a header of {n_header} bytes, more than {limit}")
    return dict(json.loads(raw[8 : 8 + n_header].decode("utf-8"), object_pairs_hook=unique_names))


def check_size(path: Path, n_bytes: int, max_bytes: int) -> None:
    """Raise ValueError if a file needs more bytes than `max_bytes`."""
    if n_bytes > max_bytes:
        raise ValueError(
            f"{path}: quantized tensors must need at most {max_bytes} bytes, got {n_bytes}; raise "
            "max_bytes if you trust them"
        )


@contextmanager
def content_errors(path: Path) -> Iterator[None]:
    """Raise any error of reading the content as a ValueError: `save` did not write this content."""
    try:
        yield
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SafetensorError,
    ) as error:
        what = str(error) if isinstance(error, ValueError) else repr(error)
        text = shown(what, MAX_TEXT)
        raise ValueError(
            f"{path}: content is not what save writes: {text}; use another copy"
        ) from error
