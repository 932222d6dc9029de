"""Classes whose methods run as they are inside a function that torch compiles."""

import sys
from collections.abc import Callable
from functools import wraps
from inspect import isfunction
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)


def eager(cls: Class) -> Class:
    """The class, its public methods outside the graph of ``torch.compile``.

    Kernels cannot be traced, and torch would trace NumPy as operations of its own. It does not
    import torch.
    """
    for name, method in list(vars(cls).items()):
        if isfunction(method) and not name.startswith("_"):
            setattr(cls, name, untraced(method))
    return cls


def untraced(method: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called without being traced."""

    @wraps(method)
    def run(*arguments: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:  # it loads with the first torch.compile
            return method(*arguments, **options)
        return sys.modules["torch"].compiler.disable(method)(*arguments, **options)

    return run
