"""Sources: what a user has named as data, one file or data set after the other."""

import os
import sys
from collections.abc import Iterable
from glob import glob
from pathlib import Path, PurePath
from typing import Any

from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.data.folder import data_files
from eval.data.source import STDIN
from ngrammix.escaping import escaped

TOKENS = (".bin", ".npy")


def list_sources(data: Any) -> list[Any]:
    """The names, as text, and the data sets that `data` lists; patterns and folders of tokens too.

    Raises
    ------
    ValueError
        If there is none, or a pattern fits no file.
    """
    is_one = isinstance(data, str | os.PathLike | bytes | Data) or is_data_set(data)
    if not is_one and (not isinstance(data, Iterable) or hasattr(data, "columns")):
        raise not_data(data)
    listed = [data] if is_one else [*data]
    if not listed:
        raise ValueError("data must be at least one name, got none; name a file")
    if all(isinstance(one, Document | bytes) for one in listed):
        return [Documents(listed)]
    sources: list[Any] = []
    for one in listed:
        if isinstance(one, str | os.PathLike):
            sources += expand(os.fspath(one))
        elif isinstance(one, Data) or is_data_set(one):
            sources.append(one)
        else:
            raise not_data(one)
    return sources


def not_data(data: Any) -> ValueError:
    """The error of an object that is no data."""
    return ValueError(
        f"data must be names of files or data sets, got {type(data).__name__}; pass texts as "
        "Documents(texts)"
    )


def expand(path: str) -> list[str]:
    """The path itself, or the files that fit it as a pattern; a folder of tokens as its files."""
    if not path:
        raise ValueError("data must be names of files, got an empty name; check the command")
    if not is_name(path):
        raise ValueError(
            f"data must be names of files, got {escaped(path)}, which none can have; correct it"
        )
    if path != STDIN and not exists(path) and any(mark in path for mark in "*?["):
        found = sorted(matches(path))
        found = [one for one in found if Path(one).is_file()] or found  # no folders, no pipes
        if not found:
            raise ValueError(f"data must be files, got none that fit {path}; check the pattern")
        return found
    files = data_files(path) if exists(path) and Path(path).is_dir() else []
    is_shards = all(map(is_tokens, files)) and len({Path(file).suffix for file in files}) == 1
    return files if is_shards else [path]


def is_name(path: str) -> bool:
    """Whether the system can have a file of this name: no zero byte, no half of a surrogate."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def matches(pattern: str) -> set[str]:
    """The paths that fit a pattern; ``**`` follows no links, which may lead round in circles."""
    parts = PurePath(pattern).parts
    if "**" not in parts:
        return set(glob(pattern))  # noqa: PTH207  Path.glob refuses "/a/*"
    first = next(i for i, part in enumerate(parts) if any(mark in part for mark in "*?["))
    folder, rest = Path(*parts[:first]), [*parts[first:]]
    rest += ["*"] if rest[-1] == "**" else []
    has_hidden = any(part.startswith(".") for part in rest)
    return {
        str(path)
        for path in folder.glob(str(PurePath(*rest)))
        if has_hidden or not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def exists(path: str) -> bool:
    """Whether there is a file or folder of this path; False for a text that cannot be a path."""
    return os.path.exists(path)  # noqa: PTH110  Path.exists fails on a text of 5,000 letters


def is_data_set(data: Any) -> bool:
    """Whether this is a data set, or a dictionary of them, of the library ``datasets``."""
    library = sys.modules.get("datasets")  # without it there is no such object
    names = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict")
    return library is not None and isinstance(data, tuple(getattr(library, n) for n in names))


def name_of(source: Any) -> str:
    """The name of a source, for error texts."""
    return source if isinstance(source, str) else str(getattr(source, "name", "a data set"))


def is_tokens(path: str) -> bool:
    """Whether the path is that of a token file."""
    return path.lower().endswith(TOKENS)
