"""Folders that ``save_to_disk`` of the library ``datasets`` wrote: one document per row."""

import json
from pathlib import Path, PurePath
from typing import Any

from eval.data.base import Data
from eval.data.concatenated import ConcatenatedData, concatenate
from eval.data.file_data import FileData
from eval.data.splits import choose_rows, count_rows, cut, refuse_split
from ngrammix.reading import read_start

MAX_JSON = 1 << 26  # bytes, 64 MiB, of a file about the data


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` has written the folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def open_saved(path: str, column: str, split: str | None) -> Data:
    """The data set that ``save_to_disk`` wrote into a folder, memory-mapped.

    Raises
    ------
    ValueError
        If it is damaged, or lacks `split` or `column`.
    """
    folder = Path(path)
    if not (folder / "dataset_dict.json").is_file():
        refuse_split(split, path)
        return open_rows(folder, path, column)
    saved = sorted(one.parent.name for one in folder.glob("*/state.json") if one.is_file())

    def open_split(name: str) -> Data:
        return open_rows(folder / name, f"{path}/{name}", column)

    rows = choose_rows(saved, split, path, lambda name: count_rows(open_split(name)))
    return concatenate([cut(open_split(one.split), one) for one in rows])


def open_rows(folder: Path, name: str, column: str) -> Data:
    """The rows of the Arrow files that ``state.json`` in a folder names, in this order."""
    paths = [folder / file for file in arrow_files(folder / "state.json")]
    if missing := [path for path in paths if not path.is_file()]:
        raise not_saved(missing[0], "no file")
    return ConcatenatedData([FileData(str(path), column, "arrow") for path in paths], name)


def arrow_files(path: Path) -> list[str]:
    """The names of the data files in a ``state.json``; ValueError if it has other content."""
    state = read_object(path)
    files = state.get("_data_files")
    names = [name_of(one) for one in files] if isinstance(files, list) else []
    if not names or not all(names):
        raise not_saved(path, "no names of data files")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise not_saved(path, "rows by their indices")
    return names


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    raw = read_start(path, MAX_JSON + 1)
    try:
        value = json.loads(raw) if len(raw) <= MAX_JSON else None
    except (ValueError, RecursionError) as error:
        raise not_saved(path, "no JSON") from error
    if not isinstance(value, dict):
        raise not_saved(path, "no JSON object")
    return value


def name_of(file: Any) -> str:
    """The name of a data file in the same folder; empty if this describes none."""
    name = file.get("filename") if isinstance(file, dict) else None
    return name if isinstance(name, str) and PurePath(name).name == name != ".." else ""


def not_saved(path: Path, why: str) -> ValueError:
    """The error of a folder that ``save_to_disk`` has not written so."""
    return ValueError(
        f"data set must be as save_to_disk writes it, got {why} in {path}; save it again, or name "
        "its files"
    )
