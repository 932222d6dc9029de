"""What all reports share: aligned tables, signature lines, versions, the folder of the results."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def align(rows: Sequence[tuple[str, ...]], n_left: int = 1) -> list[str]:
    """Lines of a table: `n_left` columns to the left, the others to the right, a rule below."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [*[str.ljust] * n_left, *[str.rjust] * (len(widths) - n_left)]
    lines = [
        "  ".join(pad(cell, width) for pad, cell, width in zip(sides, row, widths, strict=True))
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def sign(score: str, conditions: Mapping[str, Any]) -> str:
    """One line: the conditions that a figure must not be quoted without; None is left out."""
    given = [f"{key}:{value}" for key, value in conditions.items() if value is not None]
    return "|".join([score, *given])


def versions() -> str:
    """Versions of everything that can move a figure."""
    packages = ["ngrammix", "numpy", "numba", "torch", "tokenizers"]
    parts = [f"{package} {version(package)}" for package in packages]
    return ", ".join([*parts, f"python {platform.python_version()}"])


def make_folder(out: Path | None) -> None:
    """Make the folder that results go to, or raise ValueError if something else has its name."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {out}; choose another name")
    out.mkdir(parents=True, exist_ok=True)
