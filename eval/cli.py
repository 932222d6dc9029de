"""The command ``ngrammix``, from its words to its exit status."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from eval.commands.parser import parser
from eval.ending import end
from eval.interrupts import SIGNALLED, stop_signals
from eval.notes import note
from eval.shadowing import check_packages
from eval.terminal import output_errors

WITHOUT_KERNELS = ("plot", "completion", "audit")  # what itself runs without compiled code


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0; 2 if the input is refused; 1 after an error that nobody foresaw;
    128 + n after signal n; 141 if nobody reads the output. The reason is one line on stderr. An
    audit returns 0, 1 or 2 for its verdict.
    """
    if argv is None:  # called as a program, not from Python
        # Threads that spin while they wait slow each other down on shared cores (measured: six
        # times). OpenMP reads the variable once, when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        warnings.showwarning = show_warning
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        with stop_signals(may_exit=argv is None):
            return run(words)
    except SystemExit:  # of argparse: after --help, or after an option that does not exist
        raise
    except BaseException as error:
        return end(error, words)


def show_warning(message: Warning | str, *_where: Any, **_: Any) -> None:
    """Write a warning to stderr in one line, without the line of code it comes from."""
    note(f"warning: {message}")


def program() -> NoReturn:
    """Run the command line as a process, and end the process."""
    status = main()
    if status > SIGNALLED:
        os._exit(status)  # without the threads: one may wait for a pipe that says nothing more
    raise SystemExit(status)


def run(words: Sequence[str]) -> int:
    """Parse the words, run the command, and write what it has printed; returns its status."""
    check_packages()
    try:
        arguments = parser().parse_args(words)
        if arguments.command != "score":
            check_single_process()
        return run_command(arguments)
    finally:
        if sys.stdout is not None:
            with output_errors():
                sys.stdout.flush()


def run_command(arguments: argparse.Namespace) -> int:
    """The exit status of a command, 0 unless it has its own; a note says if it compiles kernels."""
    command = import_module(f"eval.commands.{arguments.command}")
    if arguments.command in WITHOUT_KERNELS:
        return command.run(arguments) or 0
    from ngrammix.kernels.compiling import on_compile

    with on_compile(lambda: note("compiling kernels (first run only)")):
        return command.run(arguments) or 0


def check_single_process() -> None:
    """Raise ValueError if torchrun has started several ranks."""
    from eval.distributed.rank_info import find_rank

    if (size := find_rank().size) > 1:
        raise ValueError(
            f"score alone runs on many ranks, got {size} of them; start this without torchrun"
        )
