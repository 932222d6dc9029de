"""The parser of ``ngrammix``: its commands by name, the options of each imported when it parses."""

import argparse
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from ngrammix.escaping import escaped
from ngrammix.version import __version__

COMMANDS = {  # name of the command and of its module in eval.commands: line of help
    "demo": "score the embedded text with the embedded model",
    "score": "score a data set with a model",
    "quantize": "write the weights of a model as one small file",
    "dequantize": "write the weights of a quantized file for other libraries",
    "pipeline": "score a model before and after quantization",
    "compare": "compare mixers on the same tokens and logits",
    "audit": "prove that a scorer is legal, or that it is not",
    "plot": "draw the bits saved along the text",
    "bench": "measure speed against peers in the same run",
    "completion": "print a script that completes the command in a shell",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are escaped: they may quote any word."""

    def error(self, message: str) -> NoReturn:
        """End the command as argparse does."""
        super().error(escaped(message))


class CommandParser(Parser):
    """Parser of one command; the options are imported when it parses.

    So ``ngrammix --help`` imports no options, and no ``--help`` imports what a command runs.
    """

    module = "eval.commands.options"  # adds the options of a name, by its `add_arguments`

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(*arguments, **options)
        self._has_options = False

    def add_options(self) -> None:
        """Add the options, if they are not there yet."""
        if not self._has_options:
            import_module(self.module).add_arguments(self, self.prog.split()[-1])
            self._has_options = True

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, as argparse does, once the options are added; name the option that was meant."""
        self.add_options()
        values, unknown = super().parse_known_args(*arguments, **options)
        for word in unknown:
            flag = word.partition("=")[0]
            if near := get_close_matches(flag, self._option_string_actions, 1):
                self.error(f"unrecognized argument {flag}; did you mean {near[0]}?")
        return values, unknown


def parser() -> argparse.ArgumentParser:
    """Parser of ``ngrammix``; the parsed arguments hold ``command``."""
    return command_parsers()[0]


def command_parsers() -> tuple[argparse.ArgumentParser, dict[str, CommandParser]]:
    """The parser of ``ngrammix``, and that of each command, without its options."""
    whole = Parser(
        prog="ngrammix",
        description="Bits per byte of text: a language model with a score-first n-gram cache.",
    )
    whole.add_argument("--version", action="version", version=f"ngrammix {__version__}")
    commands = whole.add_subparsers(
        required=True, dest="command", metavar="COMMAND", parser_class=CommandParser
    )
    parsers = {}
    for name, summary in COMMANDS.items():
        text = f"{summary[0].upper()}{summary[1:]}."
        parsers[name] = commands.add_parser(name, help=summary, description=text)
    return whole, parsers
