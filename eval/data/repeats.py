"""Files that are named twice: their bytes would count twice."""

import os
from collections.abc import Sequence
from pathlib import Path

from eval.data.source import STDIN


def refuse_repeats(paths: Sequence[str]) -> None:
    """Raise ValueError if two names are of the same file, or of a folder and a file in it."""
    seen: dict[object, str] = {}
    for path in paths:
        if (one := identity(path)) in seen:
            raise ValueError(
                f"data must name each file once, got {seen[one]} and {path}; leave one out, or "
                "its bytes count twice"
            )
        seen[one] = path
    # Path.is_dir fails on a text of 5,000 letters.
    folders = {os.path.realpath(path): path for path in paths if os.path.isdir(path)}  # noqa: PTH112
    for path in paths if folders else ():
        for parent in Path(os.path.realpath(path)).parents:
            if path != STDIN and str(parent) in folders:
                raise ValueError(
                    f"data must name each file once, got {path} and its folder "
                    f"{folders[str(parent)]}; leave one out, or its bytes count twice"
                )


def identity(path: str) -> object:
    """What two names of one file have in common, be they links or not."""
    if path == STDIN:
        return path
    try:
        status = os.stat(path)  # noqa: PTH116  of 100,000 files, in half of the time of Path
    except (OSError, ValueError):  # a name of the Hub, or a text that is no path
        return path
    return status.st_dev, status.st_ino
