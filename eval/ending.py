"""How a command ends: its exit status, and one line on stderr that says why."""

import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGINT

from eval.interrupts import SIGNALLED, Stopped
from eval.notes import note
from eval.out_of_memory import is_out_of_memory, what_helps

REFUSED, UNEXPECTED = 2, 1  # exit statuses
JUDGES = ("audit",)  # commands whose status 1 is a verdict, which no error may be taken for
BROKEN_PIPE = SIGNALLED + 13  # SIGPIPE: the reader of standard output is gone, as in ``| head``


def end(error: BaseException, argv: Sequence[str]) -> int:
    """Say why a command ends, in one line; returns the exit status.

    Parameters
    ----------
    error : BaseException
        What the command raised.
    argv : sequence of str
        Its words after ``ngrammix``.
    """
    drop_output()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt):
        note(describe_stop(error, argv))
        return SIGNALLED + (error.number if isinstance(error, Stopped) else SIGINT)
    if is_out_of_memory(error):
        note(
            "error: memory must be enough for the run, got an allocation that failed"
            f"{reason(error)}; {what_helps(argv[0] if argv else None)}"
        )
        return REFUSED
    if isinstance(error, ModuleNotFoundError):
        note(f"error: {error}; install it, or check the name")
        return REFUSED
    if isinstance(error, ValueError | OSError | ImportError):
        note(f"error: {error}")
        return REFUSED
    note(f"error: {describe_unexpected(error)}")
    return REFUSED if argv and argv[0] in JUDGES else UNEXPECTED


def describe_stop(error: KeyboardInterrupt, argv: Sequence[str]) -> str:
    """Which signal it was, what was kept, and how to go on."""
    parts = [str(error) or "stopped by SIGINT", *getattr(error, "__notes__", ())]
    if any("saved in" in part for part in parts):
        is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
        again = f"repeat: ngrammix {shlex.join(argv)}"
        parts.append(
            f"to go on, {again if is_alone else 'start all ranks again with the same options'}"
        )
    return "; ".join(parts)


def describe_unexpected(error: BaseException) -> str:
    """An error that nobody foresaw: its kind and place, and the file of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    what = f"{type(error).__name__}{reason(error)}{place}"
    text = "".join(traceback.format_exception(error))
    try:
        number, name = tempfile.mkstemp(".txt", "ngrammix-traceback-")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return f"{what}; {text.rstrip()}"
    return f"{what}; the traceback is in {Path(name)}"


def reason(error: BaseException) -> str:
    """The text of an error in brackets, empty without one, and its notes."""
    text = "; ".join(filter(None, [str(error), *getattr(error, "__notes__", ())]))
    return f" ({text})" if text else ""


def drop_output() -> None:
    """Drop what standard output holds if it cannot be written, so that nobody tries again."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
