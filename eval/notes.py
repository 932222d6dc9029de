"""Notes on stderr: what takes long, in one line each."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Timer

from ngrammix.escaping import escaped

DELAY = 2.0  # seconds until a step counts as long


def note(text: str) -> None:
    """Write one line to stderr, escaped; a stderr that is closed is no error."""
    with suppress(OSError, ValueError, AttributeError):
        # With its end in one piece: print writes that by itself, and a process may end between.
        sys.stderr.write(f"ngrammix: {escaped(text)}\n")
        sys.stderr.flush()


@contextmanager
def note_if_slow(text: str, delay: float = DELAY) -> Iterator[None]:
    """Write the line if the block takes longer than `delay` seconds, as soon as it does.

    Only on a terminal: what is written to a file must not depend on the speed of the machine.
    """
    timer = Timer(delay, note, [text])
    timer.daemon = True
    if sys.stderr is not None and sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
