"""Snapshot files of named arrays: written whole or not at all, verified before they are used.

Layout: ``NGRAMMIX``; format version and header length, both u32; BLAKE2b-128 of the header; the
header, which is JSON with the values and the dtype, shape and BLAKE2b-128 of each array; then the
raw bytes of the arrays, little-endian and in C order, each padded with zeros to begin on a page.
The file ends with the last array. There is no pickle, and every length is checked against the size
of the file before it is used: to read a file takes its size, and 64 MiB for the header at most. To
load a cache or a mixer takes 4 times its size and 256 MiB at most.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ngrammix.atomic import replaced
from ngrammix.reading import read_errors, shown, unique_names
from ngrammix.types import StateDict

MAGIC = b"NGRAMMIX"
VERSION = 4
PAGE = 4096
DIGEST_BYTES = 16
START = len(MAGIC) + 8 + DIGEST_BYTES  # of the header
MAX_HEADER = 1 << 20
MAX_DIMENSIONS, MAX_SIZE = 8, 1 << 62  # of an array
MAX_TEXT = 300  # characters of a reason in an error
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
    header = json.dumps({"values": values, "arrays": headers}, allow_nan=False).encode()
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
    with read_errors(path, SnapshotError), _content_errors(path):
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
    with _content_errors(path):
        yield contents


@contextmanager
def _content_errors(path: Path) -> Iterator[None]:
    """Raise a `SnapshotError` for any error in the block that the content of the file can cause."""
    try:
        yield
    except SnapshotError:
        raise
    # RecursionError is a RuntimeError, KeyError a LookupError, OverflowError an ArithmeticError.
    except (
        ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError
    ) as error:  # fmt: skip
        raise damaged(path, error if isinstance(error, ValueError) else repr(error)) from error


def check_names(values: dict[str, Any], names: Sequence[str]) -> None:
    """Raise ValueError unless the values have exactly these names."""
    if values.keys() != set(names):
        raise ValueError(f"values must be {sorted(names)}, got {sorted(values)}")


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
    """The error for a file whose content differs from what was saved; one line, of bounded size."""
    text = shown(reason, MAX_TEXT)
    return SnapshotError(f"{path} is damaged: {text}; use another copy, or learn the tokens anew")


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
        content = json.loads(
            header.decode("utf-8"), object_pairs_hook=unique_names, parse_constant=_refuse
        )
        headers = {name: _array_header(**array) for name, array in content["arrays"].items()}
        return dict(content["values"]), headers
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"its header is not valid ({error!r})") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _array_header(dtype: str, shape: list[int], digest: str) -> _ArrayHeader:
    is_list = type(shape) is list and len(shape) <= MAX_DIMENSIONS
    if not is_list or not all(type(n) is int and 0 <= n < MAX_SIZE for n in shape):
        raise ValueError(f"shape {shape}")
    return _ArrayHeader(DTYPES[dtype], tuple(shape), digest)


def _digest(array: NDArray[Any]) -> str:
    return blake2b(array.data, digest_size=DIGEST_BYTES).hexdigest()


def _little(array: NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _check(is_intact: bool, path: Path, reason: str) -> None:
    if not is_intact:
        raise damaged(path, reason)
