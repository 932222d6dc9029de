"""Calls of tokenizer libraries: whatever they raise becomes a ValueError of one line."""

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
