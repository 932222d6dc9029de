"""The model of a Python factory: ``package.module:factory``."""

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from eval.shadowing import find_hidden

MEND = "name a function that returns the model"


def call_factory(spec: str) -> Any:
    """What ``package.module:factory`` returns; modules are searched in the current directory too.

    Raises
    ------
    ValueError
        If the function does not exist, needs arguments, raises an exception, or returns what
        cannot be a model. The text says what was raised, and where.
    """
    name, _, attribute = spec.partition(":")
    check_spec(spec, name, attribute)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    factory = find_factory(spec, name, attribute)
    if needed := needed_arguments(factory):
        raise ValueError(
            f"a model factory must need no arguments, got {spec!r}, which needs "
            f"{', '.join(needed)}; write a function that returns {attribute}(...) and name it"
        )
    try:
        model = factory()
        wrong = what_is_wrong(model)  # asks for attributes, which may raise anything too
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"a model factory must return a model, got {spec!r}, which raised "
            f"{describe_error(error)}; correct it"
        ) from error
    if wrong:
        raise ValueError(
            f"a model factory must return a model, got {spec!r}, which returned {wrong}"
        )
    return model


def check_spec(spec: str, name: str, attribute: str) -> None:
    """Raise ValueError if the module is named by its path, or a part of the name is missing."""
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        folder = "its folder" if path.parent == Path() else str(path.parent)
        raise ValueError(
            f"a model factory must be package.module:factory, got the path {spec!r}; pass "
            f"{path.stem}:{attribute or 'factory'} and start in {folder}"
        )
    if not attribute or not all(name.split(".")):
        raise ValueError(f"a model factory must be package.module:factory, got {spec!r}; {MEND}")


def find_factory(spec: str, name: str, attribute: str) -> Callable[[], Any]:
    """The function; ValueError if it or its module does not exist, or the module fails."""
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            hidden = find_hidden(error) if isinstance(error, ImportError) else ""
            raise ValueError(
                f"a model must be importable, got {spec!r}, whose module raised "
                f"{describe_error(error)}; {hidden or 'correct it'}"
            ) from error
        near = get_close_matches(name, [path.stem for path in Path.cwd().glob("*.py")], 1)
        hint = f"did you mean {near[0]}?" if near else "check the name and the current directory"
        raise ValueError(f"a model must be importable, got {spec!r}: {error}; {hint}") from error
    try:
        factory = attrgetter(attribute)(module)
    except AttributeError as error:
        near = get_close_matches(attribute, dir(module), 1)
        hint = f"did you mean {near[0]}?" if near else MEND
        raise ValueError(
            f"a model factory must be a function, got {spec!r}: {name} has no {attribute!r}; {hint}"
        ) from error
    if not callable(factory):
        raise ValueError(
            f"a model factory must be a function, got {spec!r}: {attribute} is a "
            f"{type(factory).__name__}; {MEND}"
        )
    return factory  # type: ignore[no-any-return]


def needed_arguments(factory: Callable[..., Any]) -> list[str]:
    """Names of the arguments without default; empty if the callable does not tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (ValueError, TypeError):
        return []
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in open_ended]


def what_is_wrong(model: Any) -> str | None:
    """Why an object cannot be a model, and the mend; None if it may be one."""
    kind = type(model).__name__
    if model is None:
        return "None; end the function with return model"
    if isinstance(model, type):
        return f"the class {model.__name__}; return an instance with its weights"
    if hasattr(model, "logits") and hasattr(model, "vocab_size"):
        return what_no_model_has(model)
    if hasattr(model, "encode") and hasattr(model, "decode") and not hasattr(model, "forward"):
        return f"a tokenizer, {kind}; return the model, and pass the tokenizer with --tokenizer"
    if isinstance(model, tuple | list):
        return f"a {kind} of {len(model)}; return the model alone"
    if not callable(model):
        return (
            f"an object of type {kind}; return a torch module, or a function from tokens to logits"
        )
    return None


def what_no_model_has(model: Any) -> str | None:
    """Which attribute of an object with `logits` is none of a `Model`; None if all may be one's."""
    for attribute in ("vocab_size", "context"):
        value = getattr(model, attribute, None)
        is_count = isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0
        if value is not None and not is_count:
            return f"a model whose {attribute} is {repr(value)[:40]}; make it an integer >= 1"
    name: object = getattr(model, "name", None)
    if name is not None and not isinstance(name, str):
        return f"a model whose name is a {type(name).__name__}; make it a text"
    return None


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
