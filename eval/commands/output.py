"""The options of the output, which the commands share."""

import argparse
from pathlib import Path


def add_output(parser: argparse.ArgumentParser, files: str) -> None:
    """Add ``--out``, the folder of these files, and ``--json``."""
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {files} there")
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
