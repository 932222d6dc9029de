"""Lines on standard output: what would control a terminal is escaped, and errors are told."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ngrammix.escaping import escaped


def show(text: str) -> None:
    """Write lines to standard output, escaped, also for what its encoding lacks.

    Raises
    ------
    BrokenPipeError
        If nobody reads any more.
    ValueError
        If it cannot be written for another reason, such as a full disk.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = escaped(text, lines=True).encode(encoding, "backslashreplace").decode(encoding)
    with output_errors():
        print(text, end="" if text.endswith("\n") else "\n", flush=True)  # noqa: T201


@contextmanager
def output_errors() -> Iterator[None]:
    """Raise an OSError of standard output as a ValueError that says so, unless it is closed."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(
            f"standard output must take what is printed, got: {error.strerror}; make room on its "
            "disk, or send it elsewhere"
        ) from error
