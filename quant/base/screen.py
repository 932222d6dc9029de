"""Progress bars, and the size of the terminal that they are drawn on."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

COLUMNS, ROWS = 80, 24  # of a terminal that does not tell; tqdm would draw nothing there


def screen() -> dict[str, int]:
    """``ncols`` and ``nrows`` for tqdm, of the terminal behind stderr."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # no terminal
        columns = rows = 0
    return {"ncols": (columns or COLUMNS) - 1, "nrows": rows or ROWS}


def progress_bar(
    items: Iterable[Any] | None = None, *, is_shown: bool, **options: Any
) -> "tqdm[Any]":
    """A bar of tqdm on stderr if that is a terminal and the bar is to be shown; else a silent one.

    options: those of tqdm.
    """
    return tqdm(items, disable=None if is_shown else True, **options, **screen())
