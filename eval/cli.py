"""The command ``ngrammix``: its commands by name, each imported when it is used."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any, NoReturn

from eval.ending import end
from eval.interrupts import SIGNALLED, stop_signals
from eval.notes import note
from eval.shadowing import check_packages

COMMANDS = {  # name of the command and of its module in eval.commands: line of help
    "demo": "score the embedded text with the embedded model",
    "score": "score a data set with a model",
    "quantize": "write the weights of a model as one small file",
    "pipeline": "score a model before and after quantization",
    "compare": "compare mixers on the same tokens and logits",
    "plot": "draw the bits saved along the text",
    "bench": "measure speed against peers in the same run",
}


class CommandParser(argparse.ArgumentParser):
    """Parser of one command; the options are imported when it parses.

    So ``ngrammix --help`` imports no options, and no ``--help`` imports what a command runs.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*arguments, **options)
        self._has_options = False

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, as argparse does, once the options are added."""
        if not self._has_options:
            import_module("eval.commands.options").add_arguments(self, self.prog.split()[-1])
            self._has_options = True
        return super().parse_known_args(*arguments, **options)


def parser() -> argparse.ArgumentParser:
    """Parser of ``ngrammix``; the parsed arguments hold ``command``."""
    command = argparse.ArgumentParser(
        prog="ngrammix",
        description="Bits per byte of text: a language model with a score-first n-gram cache.",
    )
    command.add_argument("--version", action="version", version=f"ngrammix {version('ngrammix')}")
    commands = command.add_subparsers(
        required=True, dest="command", metavar="COMMAND", parser_class=CommandParser
    )
    for name, summary in COMMANDS.items():
        text = f"{summary[0].upper()}{summary[1:]}."
        commands.add_parser(name, help=summary, description=text)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0; 2 if the input is refused; 1 after an error that nobody foresaw;
    128 + n after signal n; 141 if nobody reads the output. The reason is one line on stderr.
    """
    if argv is None:  # called as a program, not from Python
        # Threads that spin while they wait slow each other down on shared cores (measured: six
        # times). OpenMP reads the variable once, when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        warnings.showwarning = show_warning
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with stop_signals(may_exit=argv is None):
            run(words)
    except SystemExit:  # of argparse: after --help, or after an option that does not exist
        raise
    except BaseException as error:
        return end(error, words)
    return 0


def show_warning(message: Warning | str, *_where: Any, **_: Any) -> None:
    """Write a warning to stderr in one line, without the line of code it comes from."""
    note(f"warning: {message}")


def program() -> NoReturn:
    """Run the command line as a process, and end the process."""
    status = main()
    if status > SIGNALLED:
        os._exit(status)  # without the threads: one may wait for a pipe that says nothing more
    raise SystemExit(status)


def run(words: Sequence[str]) -> None:
    """Parse the words, run the command, and write what it has printed."""
    check_packages()
    try:
        arguments = parser().parse_args(words)
        if arguments.command != "score":
            check_single_process()
        run_command(arguments)
    finally:
        if sys.stdout is not None:
            sys.stdout.flush()


def run_command(arguments: argparse.Namespace) -> None:
    """Run a command; a note says so if it compiles kernels."""
    from ngrammix.kernels.compiling import on_compile

    command = import_module(f"eval.commands.{arguments.command}")
    with on_compile(lambda: note("compiling kernels (first run only)")):
        command.run(arguments)


def check_single_process() -> None:
    """Raise ValueError if torchrun has started several ranks."""
    from eval.distributed.rank_info import find_rank

    if (size := find_rank().size) > 1:
        raise ValueError(
            f"score alone runs on many ranks, got {size} of them; start this without torchrun"
        )
