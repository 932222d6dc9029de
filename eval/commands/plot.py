"""``ngrammix plot``: a picture of what ``ngrammix score --out`` wrote."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="what score --out wrote, one a line"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the picture: .svg, .png or .pdf"
    )
    parser.add_argument(
        "--kind",
        choices=("saved", "bpb"),
        default="saved",
        help="bits saved so far, or bits per byte of the text so far (default: %(default)s)",
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="of the texts (default: the folders' names)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Draw the picture."""
    from eval.plots import plot_bits_saved

    plot_bits_saved(arguments.folders, arguments.out, labels=arguments.labels, kind=arguments.kind)
