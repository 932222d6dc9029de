"""Snapshot files of named arrays: written whole or not at all, verified before they are used.

Layout: ``NGRAMMIX``; format version and header length, both u32; BLAKE2b-128 of the header; the
header, which is JSON with the values and the dtype, shape and BLAKE2b-128 of each array; then the
raw bytes of the arrays, little-endian and in C order, each padded with zeros to begin on a page.
The file ends with the last array. There is no pickle, and every length is checked against the size
of the file before it is used.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ngrammix.atomic import replaced
from ngrammix.reading import read_errors
from ngrammix.types import StateDict

MAGIC = b"NGRAMMIX"
VERSION = 2
PAGE = 4096
DIGEST_BYTES = 16
START = len(MAGIC) + 8 + DIGEST_BYTES  # of the header
MAX_HEADER = 1 << 20
DTYPES = {name: np.dtype(f"<{name}") for name in ("u4", "i4", "i8", "f8")}

Contents = tuple[dict[str, Any], StateDict]  # (values for JSON, arrays)


class SnapshotError(ValueError):
    """Raised for a file that is not a complete, unaltered snapshot of the expected kind."""


class _ArrayHeader(NamedTuple):
    """Dtype, shape and BLAKE2b digest of one array, from the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    digest: str


def write(path: Path, values: dict[str, Any], arrays: StateDict) -> None:
    """Write `values` (JSON) and `arrays` (of `DTYPES`) to `path`, whole or not at all.

    ValueError if no file can be written there; see `replaced`.
    """
    little = {name: np.ascontiguousarray(array, _little(array)) for name, array in arrays.items()}
    headers = {
        name: _ArrayHeader(array.dtype, array.shape, _digest(array))._asdict()
        | {"dtype": array.dtype.str[1:]}
        for name, array in little.items()
    }
    header = json.dumps({"values": values, "arrays": headers}).encode()
    with replaced(path, "snapshots") as file:
        file.write(MAGIC + np.array([VERSION, len(header)], "<u4").tobytes())
        file.write(blake2b(header, digest_size=DIGEST_BYTES).digest() + header)
        for array in little.values():
            file.write(bytes(-file.tell() % PAGE))
            file.write(array.data)


def read(path: Path) -> Contents:
    """Return (values, arrays) of the snapshot at `path`.

    Raises
    ------
    SnapshotError
        If the file is missing, not a snapshot, of another version, truncated, longer than its
        header says, or altered in any bit.
    """
    with read_errors(path, SnapshotError):
        return _read(path)


def _read(path: Path) -> Contents:
    """As `read`; OSError if the system refuses."""
    if not path.is_file():
        raise SnapshotError(f"snapshot must be a file, got {path}; check the path")
    size = path.stat().st_size
    with path.open("rb") as file:
        values, headers = _read_header(path, file, size)
        arrays = {}
        for name, (dtype, shape, digest) in headers.items():
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
    """(values, arrays) of the snapshot; errors of the `with` block become a `SnapshotError`."""
    contents = read(path)
    try:
        yield contents
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise damaged(path, error) from error


def load_arrays(into: StateDict, arrays: StateDict) -> None:
    """Copy `arrays` into the arrays `into` of the same names.

    ValueError unless names, dtypes and shapes are equal and all floats are finite.
    """
    if arrays.keys() != into.keys():
        raise ValueError(f"arrays must be {sorted(into)}, got {sorted(arrays)}")
    for name, array in arrays.items():
        if array.dtype != into[name].dtype or array.shape != into[name].shape:
            raise ValueError(f"{name} has the wrong shape or dtype")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")
        into[name][:] = array


def join(groups: dict[str, StateDict]) -> StateDict:
    """Arrays of several groups in one dict, each under the name "group array"."""
    return {
        f"{group} {name}": array
        for group, arrays in groups.items()
        for name, array in arrays.items()
    }


def split(arrays: StateDict, groups: Sequence[str]) -> dict[str, StateDict]:
    """Arrays that `join` put together, by group; they are taken out of `arrays`.

    ValueError if an array belongs to none of the groups.
    """
    by_group: dict[str, StateDict] = {group: {} for group in groups}
    for name in list(arrays):
        group, _, rest = name.partition(" ")
        if group not in by_group:
            raise ValueError(f"array {name} belongs to none of {sorted(by_group)}")
        by_group[group][rest] = arrays.pop(name)
    return by_group


def damaged(path: Path, reason: object) -> SnapshotError:
    """The error for a file whose content differs from what was saved."""
    return SnapshotError(f"{path} is damaged: {reason}; use another copy, or learn the tokens anew")


def _read_header(
    path: Path, file: BinaryIO, size: int
) -> tuple[dict[str, Any], dict[str, _ArrayHeader]]:
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
        headers = {str(name): _array_header(**array) for name, array in content["arrays"].items()}
        return dict(content["values"]), headers
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"its header is not valid ({error!r})") from error


def _array_header(dtype: str, shape: list[int], digest: str) -> _ArrayHeader:
    if not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return _ArrayHeader(DTYPES[dtype], tuple(shape), digest)


def _digest(array: NDArray[Any]) -> str:
    return blake2b(array.data, digest_size=DIGEST_BYTES).hexdigest()


def _little(array: NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _check(is_intact: bool, path: Path, reason: str) -> None:
    if not is_intact:
        raise damaged(path, reason)
