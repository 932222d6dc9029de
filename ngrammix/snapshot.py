"""One file of named arrays: written whole or not at all, and checked before anything is trusted.

Layout: ``NGRAMMIX``, format version and header length (both u32), BLAKE2b-128 of the header, the
header (JSON: values, and of each array its dtype, shape and BLAKE2b-128), then the arrays' raw
bytes, little-endian, C order, each begun on a page after zeros. The file ends with the last array.
No pickle, and no length is believed that does not add up to the size of the file.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAGIC = b"NGRAMMIX"
VERSION = 2
PAGE = 4096
DIGEST_BYTES = 16
START = len(MAGIC) + 8 + DIGEST_BYTES  # of the header
MAX_HEADER = 1 << 20
DTYPES = {name: np.dtype(f"<{name}") for name in ("u4", "i4", "i8", "f8")}

Contents = tuple[dict[str, Any], dict[str, NDArray[Any]]]  # values for JSON, and arrays


class SnapshotError(ValueError):
    """A file that is no whole, unaltered snapshot of what was asked for."""


class _Described(NamedTuple):
    """What a header says of one array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    digest: str


def write(path: Path, values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
    """Write `values` (JSON) and `arrays` (of `DTYPES`) to `path`.

    The bytes go to a file beside it and reach the disk before that takes the name: a reader, or a
    process killed at any moment, leaves the old file whole or the new one.
    """
    plain = {name: np.ascontiguousarray(array, _little(array)) for name, array in arrays.items()}
    described = {
        name: _Described(array.dtype, array.shape, _digest(array))._asdict()
        | {"dtype": array.dtype.str[1:]}
        for name, array in plain.items()
    }
    header = json.dumps({"values": values, "arrays": described}).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(MAGIC + np.array([VERSION, len(header)], "<u4").tobytes())
            file.write(blake2b(header, digest_size=DIGEST_BYTES).digest() + header)
            for array in plain.values():
                file.write(bytes(-file.tell() % PAGE))
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> Contents:
    """(values, arrays) of the snapshot at `path`.

    Raises
    ------
    SnapshotError
        If the file is missing, no snapshot, of another version, cut short, longer than it says, or
        altered by a bit.
    """
    if not path.is_file():
        raise SnapshotError(f"snapshot must be a file, got {path}; check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        values, described = _read_header(path, file, size)
        arrays = {}
        for name, (dtype, shape, digest) in described.items():
            pad = -file.tell() % PAGE
            _check(file.read(pad) == bytes(pad), path, f"the zeros before {name} are not zero")
            left = size - file.tell()
            _check(dtype.itemsize * prod(shape) <= left, path, f"{name} ends beyond the file")
            array = np.fromfile(file, dtype, prod(shape)).reshape(shape)
            _check(_digest(array) == digest, path, f"{name} is not what was saved")
            arrays[name] = array.astype(dtype.newbyteorder("="), copy=False)
        left = size - file.tell()
        _check(left == 0, path, f"{left} bytes follow its end")
    return values, arrays


@contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """What `read` gives; what is raised while it is put to use means that the file is damaged."""
    parts = read(path)
    try:
        yield parts
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damaged(path, error) from error


def load_arrays(into: dict[str, NDArray[Any]], arrays: dict[str, NDArray[Any]]) -> None:
    """Copy `arrays` into those of the same names, or raise ValueError if they are not alike.

    Floats must be finite.
    """
    if arrays.keys() != into.keys():
        raise ValueError(f"arrays {sorted(arrays)} where {sorted(into)} belong")
    for name, array in arrays.items():
        if array.dtype != into[name].dtype or array.shape != into[name].shape:
            raise ValueError(f"{name} has the wrong shape or dtype")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
        into[name][:] = array


def join(parts: dict[str, dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays of several parts under one name each: "part array"."""
    return {f"{part} {name}": array for part, its in parts.items() for name, array in its.items()}


def split(arrays: dict[str, NDArray[Any]], parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What was joined, by part; taken out of `arrays`. ValueError if an array is of no part."""
    found: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for name in list(arrays):
        part, _, rest = name.partition(" ")
        if part not in found:
            raise ValueError(f"array {name} is of no part")
        found[part][rest] = arrays.pop(name)
    return found


def damaged(path: Path, what: object) -> SnapshotError:
    """Error of a file whose content cannot be what was saved."""
    return SnapshotError(f"{path} is damaged: {what}; use another copy, or learn the tokens anew")


def _read_header(
    path: Path, file: BinaryIO, size: int
) -> tuple[dict[str, Any], dict[str, _Described]]:
    start = file.read(START)
    if start[: len(MAGIC)] != MAGIC:
        raise SnapshotError(
            f"snapshot must begin with NGRAMMIX, got {start[: len(MAGIC)]!r} in {path}; "
            "is it a file that save wrote?"
        )
    _check(len(start) == START, path, "its header is cut short")
    version, n_header = np.frombuffer(start, "<u4", 2, len(MAGIC)).tolist()
    if version != VERSION:
        raise SnapshotError(
            f"snapshot must be of version {VERSION}, got {version} in {path}; "
            "read it with the ngrammix that wrote it"
        )
    _check(n_header <= min(MAX_HEADER, size - START), path, "its header is cut short")
    header = file.read(n_header)
    digest = blake2b(header, digest_size=DIGEST_BYTES).digest()
    _check(digest == start[-DIGEST_BYTES:], path, "its header is not what was saved")
    try:
        content = json.loads(header)
        described = {str(name): _described(**array) for name, array in content["arrays"].items()}
        return dict(content["values"]), described
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"its header makes no sense ({error!r})") from error


def _described(dtype: str, shape: list[int], digest: str) -> _Described:
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return _Described(DTYPES[dtype], tuple(shape), digest)


def _digest(array: NDArray[Any]) -> str:
    return blake2b(array.data, digest_size=DIGEST_BYTES).hexdigest()


def _little(array: NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _check(is_whole: bool, path: Path, what: str) -> None:
    if not is_whole:
        raise damaged(path, what)
