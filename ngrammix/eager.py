"""Methods that run as they are inside a function that torch compiles."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])


def eager(method: Method) -> Method:
    """The method, outside the graph of ``torch.compile``: kernels cannot be traced.

    It does not import torch.
    """

    @wraps(method)
    def run(*arguments: Any, **options: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not torch.compiler.is_dynamo_compiling():
            return method(*arguments, **options)
        return torch.compiler.disable(method)(*arguments, **options)

    return cast(Method, run)
