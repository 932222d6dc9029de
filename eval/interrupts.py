"""Signals to stop: Ctrl-C, SIGTERM, SIGHUP, as an exception that comes between two steps."""

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

from eval.notes import note

SIGNALLED = 128  # plus the number of a signal: the exit status, as shells have it
FRAGILE = ("importlib", "_frozen_importlib", "_frozen_importlib_external", "llvmlite", "numba")
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The end that a signal asks for.

    Attributes
    ----------
    number : int
        Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def stop_signals(*, may_exit: bool = False) -> Iterator[None]:
    """Let a signal to stop raise `Stopped` in this block; a second one ends the process at once.

    A signal that is ignored stays ignored, such as SIGHUP under nohup. Only the main thread can
    handle signals; in another one this does nothing.

    Parameters
    ----------
    may_exit : bool
        Whether a signal may end the process where an exception would be lost; see `is_fragile`.
    """
    handlers: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in handlers:
            signal.signal(each, signal.SIG_DFL)
        if may_exit and is_fragile(frame):
            note(str(Stopped(number)))
            os._exit(SIGNALLED + number)
        raise Stopped(number)

    if current_thread() is main_thread():
        ignored = [number for number in SIGNALS if signal.getsignal(number) == signal.SIG_IGN]
        handlers = {n: signal.getsignal(n) for n in SIGNALS if n not in ignored}
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def is_fragile(frame: FrameType | None) -> bool:
    """Whether code is at work that may swallow an exception: an import, or a compiler.

    LLVM calls Python back while it compiles or loads a kernel, and goes on after an exception.
    Libraries try imports and ignore what goes wrong.
    """
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] in FRAGILE:
            return True
        frame = frame.f_back
    return False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals to stop back until the end of the block, whoever handles them."""
    held: list[int] = []
    handlers: dict[int, Any] = {}
    if current_thread() is main_thread():
        handlers = {n: signal.getsignal(n) for n in SIGNALS if callable(signal.getsignal(n))}
    for number in handlers:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in held:
            signal.raise_signal(number)


@contextmanager
def ended(items: Generator[Any, None, None]) -> Iterator[None]:
    """End a generator after the block, and tell it of an interrupt, so that it need not wait."""
    try:
        yield
    except KeyboardInterrupt as error:
        with suppress(KeyboardInterrupt, StopIteration):
            items.throw(error)
        raise
    finally:
        items.close()
