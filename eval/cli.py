"""The command ``ngrammix``: its commands by name, each imported when it is used."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

# The module that adds the options of each command, and the line of help.
COMMANDS = {
    "demo": ("eval.commands.demo", "score the embedded text with the embedded model"),
    "score": ("eval.commands.score", "score a data set with a model"),
    "quantize": ("eval.commands.quantize", "write the weights of a model as one small file"),
    "pipeline": ("eval.commands.pipeline", "score a model before and after quantization"),
    "compare": ("eval.commands.compare", "compare mixers on the same tokens and logits"),
    "plot": ("eval.commands.plot", "draw the bits saved along the text"),
    "bench": ("eval.commands.bench", "measure speed against peers in the same run"),
}


class CommandParser(argparse.ArgumentParser):
    """Parser of one command; the module with its options is imported when it parses.

    So ``ngrammix --help`` imports no command, and a command imports no other.
    """

    def __init__(self, *arguments: Any, module: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._module = module

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, as argparse does, once the module has added its options."""
        if self._module is not None:
            import_module(self._module).add_arguments(self)
            self._module = None
        return super().parse_known_args(*arguments, **options)


def parser() -> argparse.ArgumentParser:
    """Parser of ``ngrammix``; the parsed arguments hold ``command`` and its function ``run``."""
    command = argparse.ArgumentParser(
        prog="ngrammix",
        description="Bits per byte of text: a language model with a score-first n-gram cache.",
    )
    command.add_argument("--version", action="version", version=f"ngrammix {version('ngrammix')}")
    commands = command.add_subparsers(
        required=True, dest="command", metavar="COMMAND", parser_class=CommandParser
    )
    for name, (module, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, module=module)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 if the input is refused."""
    if argv is None:  # called as a program, not from Python
        # Threads that spin while they wait slow each other down on shared cores (measured: six
        # times). OpenMP reads the variable once, when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = parser().parse_args(argv)
    try:
        if arguments.command != "score":
            check_single_process()
        arguments.run(arguments)
    except (ValueError, OSError) as error:
        print(f"ngrammix: error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def check_single_process() -> None:
    """Raise ValueError if torchrun has started several ranks."""
    from eval.distributed.rank_info import find_rank

    if (size := find_rank().size) > 1:
        raise ValueError(
            f"score alone runs on many ranks, got {size} of them; start this without torchrun"
        )
