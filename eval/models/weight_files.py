"""The weight files of a folder: those that are loaded, whole and without a rival."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Self

from eval.tokenizers.files import read_json_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
N_NAMES = 3  # names that an error shows
MAX_ERROR = 200  # characters of an error of safetensors, which repeats the file's values


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold the weights of a folder.

    Attributes
    ----------
    paths : list of Path
        Each a ``.safetensors`` file; no tensor is in two of them.
    dtypes : dict of str
        The dtype of each tensor by its name, as safetensors writes it: ``F32``, ``BF16``, ``I8``.
    n_numbers : int
        How many numbers they hold, at most: packed integers may hold one in a bit.
    names : dict of str
        Other names of the tensors, by their names in the files.
    """

    paths: list[Path]
    dtypes: dict[str, str]
    n_numbers: int = 0
    names: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same files with other names for their tensors, given by the names in the files."""
        dtypes = {names[name]: dtype for name, dtype in self.dtypes.items()}
        return replace(self, dtypes=dtypes, names=names)

    def tensors(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """The named tensors, by default all, by name."""
        from safetensors import safe_open

        wanted = None if names is None else set(names)
        tensors = {}
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118
                    name = self.names.get(stored, stored)
                    if wanted is None or name in wanted:
                        tensors[name] = file.get_tensor(stored)
        return tensors


def has_safetensors(folder: Path) -> bool:
    """Whether `from_pretrained` would read safetensors from the folder."""
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def find_weights(folder: Path) -> WeightFiles:
    """The weight files that `from_pretrained` reads from a folder.

    Raises
    ------
    ValueError
        If there is none, one of several is missing or damaged, or others in the folder could be
        meant just as well.
    """
    single, index = folder / SINGLE, folder / INDEX
    listed = read_index(index) if index.is_file() else {}
    names = [SINGLE] if single.is_file() else sorted(set(listed.values()))
    if not names:
        raise ValueError(describe_others(folder))
    others = {path.name for path in folder.glob(SHARDS)} | set(listed.values())
    if rivals := sorted(others - set(names)):
        raise ValueError(
            f"a folder must hold one set of weights, got {join_names(names)} and also "
            f"{join_names(rivals)} in {folder}; delete what is not the model"
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ValueError(
            f"every file of {INDEX} must exist, got no {join_names(missing)} in {folder}; "
            "download it again"
        )
    paths = [folder / name for name in names]
    dtypes: dict[str, str] = {}
    n_numbers = 0
    for path in paths:
        held, n_held = read_header(path)
        n_numbers += n_held
        if twice := sorted(dtypes.keys() & held):
            raise ValueError(
                f"a weight must be in one file, got {join_names(twice)} in two of {folder}; "
                "download it again"
            )
        expected = {name for name, file in listed.items() if file == path.name}
        if lost := sorted(expected - held.keys()):
            raise ValueError(
                f"a file must hold what {INDEX} lists, got no {join_names(lost)} in {path}; "
                "download it again"
            )
        dtypes |= held
    return WeightFiles(paths, dtypes, n_numbers)


def read_index(path: Path) -> dict[str, str]:
    """File name of each tensor; ValueError if the index is damaged or leaves the folder."""
    table = read_json_object(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ValueError(f"{path} must hold a weight_map, got none; download it again")
    for name in table.values():
        if not isinstance(name, str) or Path(name).name != name or not name:
            is_long = isinstance(name, list | dict)  # and may be too deep to be shown
            shown = type(name).__name__ if is_long else repr(name)[:80]
            raise ValueError(f"{path} must name files of its folder, got {shown}; check it")
    return table


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """(dtype of each tensor, most numbers in all) of a safetensors file.

    ValueError if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            dtypes = {name: part.get_dtype() for name, part in slices.items()}
            sizes = {name: prod(part.get_shape()) for name, part in slices.items()}
            n_numbers = sum(n * bits_a_number(dtypes[name]) for name, n in sizes.items())
            return dtypes, n_numbers
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"weights must be a safetensors file, got {path}, which cannot be read: "
            f"{str(error)[:MAX_ERROR]}; download it again"
        ) from error


def bits_a_number(dtype: str) -> int:
    """Most numbers that may be packed in an integer of a dtype; 1 for floats."""
    return int(dtype[1:]) if re.fullmatch(r"[IU]\d+", dtype) else 1


def describe_others(folder: Path) -> str:
    """The error text for a folder without weights that `from_pretrained` would read."""
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".safetensors", *PICKLES))
    if any(name.endswith(".safetensors") for name in others):
        return (
            f"weights must be {SINGLE}, or be listed in {INDEX}, got {join_names(others)} in "
            f"{folder}; rename the file, or save the model with save_pretrained"
        )
    return (
        f"weights must be .safetensors, got {join_names(others) or 'none'} in {folder}; pickles "
        "can run code: save the model with save_pretrained(safe_serialization=True)"
    )


def join_names(names: Iterable[str]) -> str:
    """The first names of several, and how many more there are."""
    names = list(names)
    text = ", ".join(names[:N_NAMES])
    return text if len(names) <= N_NAMES else f"{text} and {len(names) - N_NAMES} more"


def check_config(folder: Path) -> Mapping[str, Any]:
    """The config.json of a folder; ValueError if it is none of a whole model."""
    if (folder / "adapter_config.json").is_file():
        base = read_json_object(folder / "adapter_config.json").get("base_model_name_or_path")
        base = base[:80] if isinstance(base, str) else None
        raise ValueError(
            f"a model must be whole, got a PEFT adapter of {json.dumps(base)} in {folder}; merge "
            "it: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(DIR)"
        )
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"the folder of a model must hold config.json, got none in {folder}; "
            "save the model with save_pretrained"
        )
    return read_json_object(folder / "config.json")
