"""Allocations that fail: the n-th array of NumPy that this process makes, or the n-th mapping."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

# Functions that take memory for their result. Compiled kernels call none of them.
MAKERS = (
    "empty", "zeros", "ones", "full", "concatenate", "stack", "hstack", "array", "asarray",
    "ascontiguousarray", "arange", "repeat", "cumsum", "flatnonzero", "fromfile", "empty_like",
    "zeros_like", "full_like", "ones_like", "frombuffer", "rint", "diff",
)  # fmt: skip


@dataclass
class Shortage:
    """Fails the n-th allocation; `hit` says which function asked for it."""

    n: int
    count: int = 0
    hit: str = ""

    def failing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose n-th call, counted over all functions, lacks memory."""

        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.n:
                self.hit = name
                raise MemoryError(f"Unable to allocate 1.00 GiB for {name}")
            return function(*arguments, **options)

        return call


@contextmanager
def allocations_fail(n: int) -> Iterator[Shortage]:
    """In the block, the n-th allocation fails."""
    shortage = Shortage(n)
    with ExitStack() as stack:
        for name in MAKERS:
            stack.enter_context(patch.object(np, name, shortage.failing(name, getattr(np, name))))
        stack.enter_context(patch.object(mmap, "mmap", _mapping(shortage)))
        yield shortage


def _mapping(shortage: Shortage) -> type[mmap.mmap]:
    """`mmap.mmap`, a class, with the failing allocations of the shortage."""

    class Mapping(mmap.mmap):
        def __new__(cls, *arguments: Any, **options: Any) -> "Mapping":
            shortage.failing("mmap", lambda: None)()
            return super().__new__(cls, *arguments, **options)

    return Mapping
