"""Folders of data files: texts, or tables of one format, by split."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from eval.config import AUTO, TABLES
from eval.data.base import Data
from eval.data.concatenated import ConcatenatedData, concatenate
from eval.data.data_card import check_card, read_card
from eval.data.file_data import FileData, refuse_column
from eval.data.formats import format_of_name
from eval.data.hf_datasets import readable
from eval.data.repeats import refuse_repeats
from eval.data.splits import choose_rows, count_rows, cut, refuse_split
from ngrammix.reading import read_errors

# Files about the data: those of `datasets`, and those that come with every repository.
ABOUT = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "_success")
ABOUT_STEMS = ("readme", "license", "licence")


def data_files(path: str) -> list[str]:
    """The files in a folder and below it, sorted; without hidden files and files about the data."""
    found = []
    for folder, inner, names in os.walk(path, onerror=stop):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]
        found += [
            str(Path(folder) / name)
            for name in names
            if not name.startswith((".", "__"))
            and name.lower() not in ABOUT
            and PurePath(name.lower()).stem not in ABOUT_STEMS
            and (Path(folder) / name).is_file()
        ]
    return sorted(found)


def stop(error: OSError) -> None:
    """Raise the error of a folder that cannot be read, so that no file is left out in silence."""
    with read_errors(error.filename):
        raise error


def open_folder(path: str, column: str | None, split: str | None, option: str = AUTO) -> Data:
    """The documents of all data files in a folder and below it, in the order of their names.

    Each text is a document, each row of a table is one. Where files have names of tables, the
    others, such as pictures and programs, are left out. Tables are divided into splits as by the
    library ``datasets``: by their names, or by the folder's README.md.

    Raises
    ------
    ValueError
        If the folder has no data files, files of several formats, or not the `split`.
    """
    files = data_files(path)
    if not files:
        raise ValueError(f"data must be files, got the folder {path} without any; name another")
    if option == AUTO:
        named = {file: kind for file in files if (kind := format_of_name(file)) is not None}
        refuse_mixture(named, path)
        if set(named.values()) & {*TABLES}:
            files = [*named]
    refuse_repeats(files)
    parts = {file: FileData(file, column, option) for file in files}
    refuse_mixture({file: part.format or "" for file, part in parts.items()}, path)
    chosen = next(iter(parts.values())).format
    refuse_column([chosen or ""], column, path)
    splits = splits_of(path, files) if chosen in TABLES else {}
    if not splits:
        refuse_split(split, path)
        return ConcatenatedData([*parts.values()], path)
    whole = {
        name: ConcatenatedData([parts[file] for file in its_files], f"{path}/{name}")
        for name, its_files in splits.items()
    }
    rows = choose_rows([*whole], split, path, lambda name: count_rows(whole[name]))
    if split is None:
        refuse_rest({*files}.difference(*splits.values()), splits, path)
    return concatenate([cut(whole[one.split], one) for one in rows])


def splits_of(path: str, files: Sequence[str]) -> dict[str, list[str]]:
    """The files of each split, as the library ``datasets`` finds them; none if it knows no file."""
    import datasets
    from datasets.exceptions import DataFilesNotFoundError

    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)  # a README without YAML
    check_card(Path(path))
    with readable(path):
        try:
            builder = datasets.load_dataset_builder(path)
        except DataFilesNotFoundError:
            return {}
    ours = {os.path.realpath(file): file for file in files}
    found = builder.config.data_files or {}
    splits = {
        str(split): [ours[real] for one in theirs if (real := os.path.realpath(one)) in ours]
        for split, theirs in found.items()
    }
    return {split: sorted(its_files) for split, its_files in splits.items() if its_files}


def refuse_mixture(kinds: Mapping[str, str], path: str) -> None:
    """Raise ValueError if the files of a folder have several formats."""
    numbers = Counter(kinds.values())
    if len(numbers) > 1:
        found = ", ".join(f"{n} of {kind}" for kind, n in sorted(numbers.items()))
        example = PurePath(next(iter(kinds))).suffix
        raise ValueError(
            f"a folder must hold files of one format, got {found} in {path}; name those to score, "
            f"as with the pattern '{PurePath(path) / '*'}{example}'"
        )


def refuse_rest(rest: set[str], splits: Mapping[str, Sequence[str]], path: str) -> None:
    """Raise ValueError if files of a folder are in no split, unless its README.md says so."""
    if rest and "data_files:" not in read_card(Path(path)):
        raise ValueError(
            f"every file of a folder must be in a split, got {min(rest)} beside the files of "
            f"{', '.join(splits)} in {path}; choose with --split, or name the files"
        )
