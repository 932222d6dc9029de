"""What the commands share: the options of the output, and the progress bar."""

import argparse
from pathlib import Path
from typing import Any

# On stderr, after two seconds, and only on a terminal.
BAR: dict[str, Any] = {"unit": " tokens", "unit_scale": True, "delay": 2, "disable": None}


def add_output(parser: argparse.ArgumentParser, files: str) -> None:
    """Add ``--out``, the folder of these files, and ``--json``."""
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {files} there")
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
