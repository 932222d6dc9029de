"""screen: the size of the terminal that progress bars are drawn on."""

import os
import sys

COLUMNS, ROWS = 80, 24  # of a terminal that does not tell; tqdm would draw nothing there


def screen() -> dict[str, int]:
    """``ncols`` and ``nrows`` for tqdm, of the terminal behind stderr."""
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # no terminal
        columns = rows = 0
    return {"ncols": (columns or COLUMNS) - 1, "nrows": rows or ROWS}
