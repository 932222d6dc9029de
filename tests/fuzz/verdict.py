"""The verdict on one input of a reader: read, refused as a user may expect, or a finding."""

import dis
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ngrammix", "quant", "eval")
RAISES = (dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"])


class WrongError(Exception):
    """A reader has read something and believes what no file of its kind can hold."""


def complaint(error: BaseException, named: str | None) -> str | None:
    """What is wrong with an error that a reader raised; None if it is as a user may expect.

    Parameters
    ----------
    error : BaseException
        Right is a ValueError that a statement ``raise`` of the packages has raised. Line breaks of
        names in it become visible where it is printed.
    named : str or None
        The text must hold it, such as the name of the file.
    """
    kind, text = type(error), str(error)
    if kind is not ValueError and not is_own(kind):
        return f"another type: {kind.__module__}.{kind.__name__}"
    if not isinstance(error, ValueError):
        return f"no ValueError: {kind.__name__}"
    if kind is ValueError and not is_raised_here(error.__traceback__):
        return "a ValueError of a library"
    if named is not None and named not in text:
        return f"{named} is not named"
    return None


def is_own(kind: type) -> bool:
    """Whether a class belongs to the packages."""
    return kind.__module__.partition(".")[0] in PACKAGES


def is_raised_here(traceback: TracebackType | None) -> bool:
    """Whether the last frame of a traceback is one of the packages, at a statement ``raise``."""
    frame = last(traceback)
    if frame is None:
        return False
    code = frame.tb_frame.f_code
    is_here = any(Path(code.co_filename).is_relative_to(ROOT / name) for name in PACKAGES)
    return is_here and code.co_code[frame.tb_lasti] in RAISES


def place(error: BaseException) -> str:
    """Type of an error and the last line of the packages in its traceback: one finding, one place.

    The place of a wrong result is that of the check that found it.
    """
    where, frame = "", error.__traceback__
    while frame is not None:
        file = Path(frame.tb_frame.f_code.co_filename)
        is_here = file.is_relative_to(ROOT) and "fuzz/child" not in str(file)
        if is_here and ".venv" not in file.parts:
            where = f"{file.relative_to(ROOT)}:{frame.tb_lineno}"
        frame = frame.tb_next
    return f"{type(error).__name__} at {where}"


def last(traceback: TracebackType | None) -> TracebackType | None:
    """The innermost entry of a traceback."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback
