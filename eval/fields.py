"""option: a field of a configuration, with its help text and what it moves; checks of its value."""

import os
import re
from dataclasses import Field, field
from numbers import Integral
from reprlib import Repr
from types import NoneType
from typing import Any, Literal, get_args

# What an option moves; see `option`.
Moves = Literal["figures", "data", "tokenizer", "model", "weights", "nothing"]
NUMBER = re.compile(r"-?[0-9]{1,19}")
SHORT = Repr()  # shows the beginning of a long or nested value
SHORT.maxstring = 200


def option(default: Any, moves: Moves, text: str, metavar: str | None = None, **limits: Any) -> Any:
    """A field of a configuration with its help text, and with what another value of it moves.

    Parameters
    ----------
    default : Any
        Its value if the option is left out.
    moves : str
        ``figures``: the figures, or what they are worth. ``data``, ``tokenizer`` and ``model``:
        figures too, by the tokens and their bytes, the tokenizer, or the model. ``weights``: those
        that a quantizer makes. ``nothing``: no figure. See `eval.scoring.conditions`.
    text : str
        The line of help.
    metavar : str, optional
        The name of the value in the help.
    **limits
        ``choices``, a sequence; ``least``, a number; ``is_path=True`` for files and folders, whose
        ``~`` is the home directory.
    """
    metadata = {"moves": moves, "help": text, "metavar": metavar, **limits}
    return field(default=default, metadata=metadata)


def check_value(option: Field[Any], hint: Any, value: Any) -> Any:
    """Return the value, an integer as int; ValueError if its type, choice or range is wrong."""
    name, kinds = option.name, get_args(hint) or (hint,)
    if int in kinds and isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)  # of numpy too
    if hint == tuple[str, ...]:
        is_right = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        wanted = "a list of text"
    else:
        is_right = type(value) in kinds
        wanted = " or ".join(kind.__name__ for kind in kinds if kind is not NoneType)
    if not is_right:
        raise ValueError(f"{name} must be {wanted}, got {SHORT.repr(value)}; correct the option")
    choices, least = option.metadata.get("choices"), option.metadata.get("least")
    if least is not None and isinstance(value, str) and NUMBER.fullmatch(value):
        value = int(value)  # an id, on the command line, where the option takes text too
    if choices and value is not None and value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}; "
            f"leave it out for {option.default or 'the default'}"
        )
    if least is not None and isinstance(value, int) and value < least:
        raise ValueError(f"{name} must be >= {least}, got {value}; leave it out for the default")
    return value


def expand_paths(value: Any) -> Any:
    """A path, or each of several, with the home directory in the place of ``~``."""
    if isinstance(value, tuple):
        return tuple(expand_home(path) for path in value)
    return value if value is None else expand_home(value)


def expand_home(path: str) -> str:
    """A path with the home directory in the place of a leading ``~`` or ``~user``.

    Unchanged if there is no such user, as in a shell: the name of a file may begin so.
    """
    if "\0" in path:  # no path at all; who opens it says so
        return path
    return os.path.expanduser(path)  # noqa: PTH111 (pathlib's raises if there is no such user)
