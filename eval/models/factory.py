"""The model of a Python factory: ``package.module:factory``."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from eval.models.named import Role, describe_error, find_named

MODEL = Role("a model", "a model factory", "factory", "name a function that returns the model")


def call_factory(spec: str) -> Any:
    """What ``package.module:factory`` returns; modules are searched in the current directory too.

    Raises
    ------
    ValueError
        If the function does not exist, needs arguments, raises an exception, or returns what
        cannot be a model. The text says what was raised, and where.
    """
    factory = find_named(spec, MODEL)
    if needed := needed_arguments(factory):
        raise ValueError(
            f"a model factory must need no arguments, got {spec!r}, which needs "
            f"{', '.join(needed)}; write a function that returns "
            f"{spec.partition(':')[2]}(...) and name it"
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
