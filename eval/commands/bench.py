"""``ngrammix bench``: the benches by name, each imported when it is run."""

import argparse
from importlib import import_module


def run(arguments: argparse.Namespace) -> None:
    """Run a bench and print its report."""
    import_module(f"eval.bench.{arguments.bench}").BENCH.run(arguments.bench, arguments)
