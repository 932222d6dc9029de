"""What the readers of files share: errors that name the file, and content within bounds."""

import errno
import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_TABLE = 1 << 20  # bytes of a file that people write by hand
MENDS = {errno.EACCES: "rights", errno.EPERM: "rights", errno.EIO: "disk"}


@contextmanager
def read_errors(path: str | Path, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Raise an OSError of the block as an error of this kind that names the file `path`.

    The system itself says what is wrong with an open file, but not which file it is.
    """
    try:
        yield
    except OSError as error:
        raise kind(
            f"a file must be readable, got {path} ({error.strerror or error}); "
            f"check its {MENDS.get(error.errno or 0, 'path')}"
        ) from error


def read_start(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file, `n_bytes` at most; ValueError if the system refuses."""
    with read_errors(path), path.open("rb") as file:
        return file.read(n_bytes)


def read_table(path: Path, what: str, *, is_json: bool = False) -> Any:
    """The content of a TOML file, or of a JSON file.

    ValueError, which begins with `what`, if the file is missing, too large or something else.
    """
    # pathlib's question raises if the name is too long.
    if not os.path.isfile(path):  # noqa: PTH113
        raise ValueError(f"{what} must be a file, got {path}; check the path")
    content = read_start(path, MAX_TABLE + 1)
    if len(content) > MAX_TABLE:
        raise ValueError(
            f"{what} must have at most {MAX_TABLE} bytes, got more in {path}; name another file"
        )
    try:
        text = content.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=unique_names) if is_json else tomllib.loads(text)
    # ValueError: of the parser, of the decoding, or of a number with too many digits.
    # RecursionError: of brackets nested too deep.
    except (ValueError, RecursionError) as error:
        kind = "JSON" if is_json else "TOML"
        raise ValueError(f"{what} must be {kind}, got {path}: {error}; correct it") from error


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs of a JSON object as dict; ValueError if a name comes twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name comes twice in an object of JSON")
    return values


def shown(reason: object, n_characters: int) -> str:
    """The beginning of a text for an error: one line, without control characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(reason)[:n_characters])
