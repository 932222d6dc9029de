"""on_compile: tells that kernels are compiled; all of them take half a minute, once a machine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener


class _Once(Listener):
    """Calls a function at the first event, and never again."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._calls = [call]

    def on_start(self, event: Event) -> None:
        """Call the function."""
        while self._calls:
            self._calls.pop()()

    def on_end(self, event: Event) -> None:
        """Do nothing."""


@contextmanager
def on_compile(call: Callable[[], object]) -> Iterator[None]:
    """Call the function once if a kernel is compiled in this block, before it is.

    A kernel that is loaded from the disk cache is not compiled.
    """
    with install_listener("numba:compile", _Once(call)):
        yield
