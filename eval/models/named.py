"""A function that a user names as ``package.module:function``, and one line for what goes wrong."""

import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any

from eval.shadowing import find_hidden


@dataclass(frozen=True)
class Role:
    """What a named function is for, as errors say it.

    Attributes
    ----------
    thing : str
        What the module brings, such as ``a model``.
    function : str
        What the function is, such as ``a model factory``.
    word : str
        The last part of the form ``package.module:word``.
    mend : str
        What to name.
    """

    thing: str
    function: str
    word: str
    mend: str


def find_named(spec: str, role: Role) -> Callable[..., Any]:
    """The function ``package.module:function``; modules are searched in the current folder too.

    Raises
    ------
    ValueError
        If the text is no such name, the function or its module does not exist, or the module
        fails. The text says what was raised, and where.
    """
    name, _, attribute = spec.partition(":")
    check_spec(spec, name, attribute, role)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return find_function(spec, name, attribute, role)


def check_spec(spec: str, name: str, attribute: str, role: Role) -> None:
    """Raise ValueError if the module is named by its path, or a part of the name is missing."""
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        folder = "its folder" if path.parent == Path() else str(path.parent)
        raise ValueError(
            f"{role.function} must be package.module:{role.word}, got the path {spec!r}; pass "
            f"{path.stem}:{attribute or role.word} and start in {folder}"
        )
    if not attribute or not all(name.split(".")):
        raise ValueError(
            f"{role.function} must be package.module:{role.word}, got {spec!r}; {role.mend}"
        )


def find_function(spec: str, name: str, attribute: str, role: Role) -> Callable[..., Any]:
    """The function; ValueError if it or its module does not exist, or the module fails."""
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            hidden = find_hidden(error) if isinstance(error, ImportError) else ""
            raise ValueError(
                f"{role.thing} must be importable, got {spec!r}, whose module raised "
                f"{describe_error(error)}; {hidden or 'correct it'}"
            ) from error
        near = get_close_matches(name, [path.stem for path in Path.cwd().glob("*.py")], 1)
        hint = f"did you mean {near[0]}?" if near else "check the name and the current directory"
        raise ValueError(
            f"{role.thing} must be importable, got {spec!r}: {error}; {hint}"
        ) from error
    try:
        function = attrgetter(attribute)(module)
    except AttributeError as error:
        near = get_close_matches(attribute, dir(module), 1)
        hint = f"did you mean {near[0]}?" if near else role.mend
        raise ValueError(
            f"{role.function} must be a function, got {spec!r}: {name} has no {attribute!r}; {hint}"
        ) from error
    if not callable(function):
        raise ValueError(
            f"{role.function} must be a function, got {spec!r}: {attribute} is a "
            f"{type(function).__name__}; {role.mend}"
        )
    return function  # type: ignore[no-any-return]


def describe_error(error: BaseException) -> str:
    """The type and the first line of an exception, and the line of the user's code it came from."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if isinstance(error, SyntaxError):  # its text names the line
        return text
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    ours = str(Path(__file__).parents[1])
    own = [f for f in frames if not f.filename.startswith((*libraries, "<frozen", ours))]
    frame = (own or frames)[-1]
    return f"{text} ({Path(frame.filename).name}, line {frame.lineno})"
