"""``ngrammix plot``: a picture of what ``ngrammix score --out`` wrote."""

import argparse


def run(arguments: argparse.Namespace) -> None:
    """Draw the picture."""
    from eval.plots import plot_bits_saved

    plot_bits_saved(arguments.folders, arguments.out, labels=arguments.labels, kind=arguments.kind)
