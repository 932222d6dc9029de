"""``ngrammix completion``: a script that completes the command in a shell."""

import argparse
from typing import Any

import shtab

from eval.commands.parser import command_parsers

PATHS: dict[str, Any] = {  # what is completed, by the name of the value in the help
    "FILE": shtab.FILE,
    "DATA": shtab.FILE,
    "PATH": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "MODEL": shtab.DIRECTORY,
}


def run(arguments: argparse.Namespace) -> None:
    """Print the script."""
    command, commands = command_parsers()
    for parser in commands.values():
        parser.add_options()
        for action in parser._actions:
            if action.metavar in PATHS:
                action.complete = PATHS[action.metavar]  # type: ignore[attr-defined]
    print(shtab.complete(command, arguments.shell))  # noqa: T201
