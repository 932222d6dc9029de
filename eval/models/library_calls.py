"""Calls of transformers: without its reports, and with each of its errors in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eval.models.size_limits import SizeError
from eval.out_of_memory import is_out_of_memory

MAX_LINE = 400  # characters of the text of an error


@contextmanager
def library_call(spec: str) -> Iterator[None]:
    """Turn what transformers raises for the model `spec` into a ValueError of one line."""
    try:
        with quiet():
            yield
    except SizeError:
        raise
    except Exception as error:  # the code of a model may raise anything
        text = first_line(error)
        mend = "; pass --trust-remote-code to run it" if "trust_remote_code" in str(error) else ""
        raise ValueError(
            f"a model must be a causal language model of Hugging Face, got {spec}, which "
            f"transformers cannot load: {text}{mend}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Turn off the progress bars and reports of transformers.

    They appear without a terminal too, and what they tell is checked by `load_weights`.
    """
    from transformers.utils import logging as library_logging

    logging: Any = library_logging  # its functions are untyped
    has_bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


@contextmanager
def forward_call(name: str) -> Iterator[None]:
    """Turn what a network of transformers raises into a ValueError of one line.

    A failed allocation stays what it is.
    """
    try:
        with quiet():
            yield
    except Exception as error:  # the code of a model may raise anything
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"a model must give logits for its tokens, got {type(error).__name__} from {name}: "
            f"{first_line(error)}; correct its config.json"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of the text of an error, or its type if the text is empty.

    With the next line too after a colon. Of a long line, the beginning.
    """
    text = str(error).strip() or type(error).__name__
    if isinstance(error, LookupError):  # its text is the key alone
        text = f"{type(error).__name__}: {text}"
    return re.sub(r":\s*\n\s*", ": ", text).splitlines()[0][:MAX_LINE]
