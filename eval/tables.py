"""What all reports share: tables, signature lines, versions, and the folder of the results."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tabulate import tabulate

from eval.terminal import escaped

PACKAGES = ("ngrammix", "numpy", "numba", "torch", "tokenizers")


def align(rows: Sequence[tuple[str, ...]], n_left: int = 1) -> list[str]:
    """Lines of a table whose first row is the header.

    The first `n_left` columns are aligned to the left, the others to the right.
    """
    header, *body = rows
    body = [tuple(map(escaped, row)) for row in body]
    sides = ["left" if i < n_left else "right" for i in range(len(header))]
    text: str = tabulate(body, header, disable_numparse=True, colalign=sides if body else None)
    return text.splitlines()


def sign(score: str, conditions: Mapping[str, Any]) -> str:
    """The signature of a figure in one line: ``score|key:value|...``, without the None values."""
    parts = [
        f"{key}:{escaped(str(value))}" for key, value in conditions.items() if value is not None
    ]
    return "|".join([score, *parts])


def versions() -> str:
    """The versions of Python and of the packages that can change a figure, in one line."""
    parts = [f"{package} {version(package)}" for package in PACKAGES]
    return ", ".join([*parts, f"python {platform.python_version()}"])


def make_folder(out: Path | None, results: Sequence[str] = (), *, overwrite: bool = False) -> None:
    """Create the folder of the results; ValueError if another run's are there.

    Parameters
    ----------
    out : Path or None
        The folder; None: nothing is done.
    results : sequence of str
        Names of the files that the run will write there.
    overwrite : bool
        Accept files of these names.

    Raises
    ------
    ValueError
        If `out` is a file, or holds one of `results`.
    """
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {out}; choose another name")
    found = [name for name in results if (out / name).exists()]
    if found and not overwrite:
        raise ValueError(
            f"--out must hold no results of another run, got {', '.join(found)} in {out}; choose "
            "another folder, or replace them with --overwrite"
        )
    out.mkdir(parents=True, exist_ok=True)
