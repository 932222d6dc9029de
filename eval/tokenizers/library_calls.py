"""Calls of tokenizer libraries: whatever they raise becomes a ValueError of one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

MAX_LINE = 400  # characters of the text of an error


@contextmanager
def tokenizer_call(rule: str, mend: str) -> Iterator[None]:
    """Turn what a library raises into a ValueError: the rule, what it says, and the mend.

    The rule names the file. A panic of a library in Rust is no Exception, and has no class that can
    be imported.
    """
    try:
        yield
    except BaseException as error:  # libraries raise Exception itself, and panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = " ".join(str(error).split())[:MAX_LINE] or type(error).__name__
        raise ValueError(f"{rule} ({text}); {mend}") from error


@contextmanager
def silent() -> Iterator[None]:
    """Drop what is written to standard error meanwhile: libraries in Rust print their panics there.

    For reading a file once, not for each text: what other threads write is dropped too.
    """
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
