"""The data card of a folder: the YAML at the head of its README.md, held within bounds.

The library `datasets` reads it to find the files of each split, and follows whatever it says.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ngrammix.reading import read_start

MAX_CARD = 1 << 20  # bytes, 1 MiB, of the head of a README.md
MAX_FILE = 1 << 24  # bytes, 16 MiB, of a file about the data: the library reads it whole
ABOUT = ("README.md", "dataset_infos.json", "dataset_info.json", "config.json")
MAX_NODES = 1 << 16  # of the YAML, each counted as often as it is repeated
HEAD = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---", re.DOTALL)  # as huggingface_hub finds it
OUTSIDE = re.compile(r"[/~\\]|.*(://|::)|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)


def check_card(folder: Path) -> None:
    """Raise ValueError if the data card is too large, or names files outside of the folder.

    So too if another file about the data is too large.
    """
    for name in ABOUT:
        path = folder / name
        if path.is_file() and path.stat().st_size > MAX_FILE:
            raise wrong_card(path, f"more than {MAX_FILE} bytes")
    path, text = folder / "README.md", read_card(folder)
    if not text.lstrip().startswith("---"):
        return
    found = HEAD.match(text)
    if found is None and len(text) > MAX_CARD:
        raise wrong_card(path, f"more than {MAX_CARD} bytes")
    root = compose(found[1] if found else "", path)
    if n_nodes(root, {}) > MAX_NODES:
        raise wrong_card(path, f"more than {MAX_NODES} values")
    for name in names(root, set()):
        if OUTSIDE.match(name):
            raise wrong_card(path, f"the name {name[:200]} outside of the folder")


def read_card(folder: Path) -> str:
    """The beginning of README.md, empty without one."""
    path = folder / "README.md"
    if not path.is_file():
        return ""
    return read_start(path, MAX_CARD + 1).decode("utf-8", "replace")


def compose(text: str, path: Path) -> Any:
    """The tree of the YAML; its parts may occur several times."""
    import yaml

    try:
        return yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise wrong_card(path, "no YAML") from error


def n_nodes(node: Any, known: dict[int, int]) -> int:
    """Values below a node, each as often as it is repeated; a node within itself counts as many."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # while its parts are counted
        known[id(node)] = 1 + sum(n_nodes(part, known) for part in parts(node))
    return known[id(node)]


def names(root: Any, seen: set[int]) -> Iterator[str]:
    """The values below ``configs``, which may be names of files."""
    for key, value in root.value if is_mapping(root) else ():
        if key.value == "configs":
            yield from scalars(value, seen)


def scalars(node: Any, seen: set[int]) -> Iterator[str]:
    """The single values below a node, once each."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node.value, str):
        yield node.value
    for part in parts(node):
        yield from scalars(part, seen)


def parts(node: Any) -> list[Any]:
    """The nodes of a list, or the keys and values of a mapping."""
    if node is None or isinstance(node.value, str):
        return []
    if is_mapping(node):
        return [part for pair in node.value for part in pair]
    return [*node.value]


def is_mapping(node: Any) -> bool:
    """Whether this is a mapping of YAML."""
    return node is not None and node.id == "mapping"


def wrong_card(path: Path, got: str) -> ValueError:
    """The error of a data card that is not followed."""
    return ValueError(
        f"a data card must be short YAML that names files of its folder, got {got} in {path}; "
        "correct it, or name the files"
    )
