"""What all reports share: tables and signature lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from ngrammix.escaping import escaped


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
