"""The training text of the demo model, without copies of the reference text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from eval.demo.reference_text import reference_text
from eval.demo.training.stdlib_text import TESTS, StdlibText, read_stdlib_texts

SHARED_RUN = 200  # characters, white space counted as one blank: a run this long is a copy
_BLOCK = SHARED_RUN // 2  # a run of 2B - 1 characters holds one whole aligned block of B


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Training and held-out documents, and how many were dropped as copies.

    Parameters
    ----------
    train : list of StdlibText
        For training: no file or module of these is held out.
    held_out : list of StdlibText
        Docstrings and prose of the files and modules held out.
    dropped : list of StdlibText
        Left out of both: they share `SHARED_RUN` characters or more with the reference text.
    """

    train: list[StdlibText]
    held_out: list[StdlibText]
    dropped: list[StdlibText]


def gather(*, held_out_percent: int = 4) -> Corpus:
    """The standard library's own text, split by file, without copies of the reference.

    Parameters
    ----------
    held_out_percent : int, percent of files and modules
        Chosen by a hash of the name, so a file stays on its side whatever else is there.

    Returns
    -------
    Corpus
        In a fixed order; equal texts are kept once.
    """
    if not 1 <= held_out_percent <= 50:
        raise ValueError(
            f"held_out_percent must be in [1, 50], got {held_out_percent}; "
            "the rest is what the model learns from"
        )
    reference = reference_text().decode("utf-8")
    documents = list(
        {document.text: document for document in reversed(read_stdlib_texts())}.values()
    )[::-1]
    copies = {document.text for document in copies_of(reference, documents)}
    corpus = Corpus(train=[], held_out=[], dropped=[])
    for document in documents:
        if document.text in copies:
            corpus.dropped.append(document)
        elif _percentile(document.origin) >= held_out_percent:
            corpus.train.append(document)
        elif document.kind in ("docstring", "prose") and TESTS.isdisjoint(
            document.origin.split("/")
        ):
            corpus.held_out.append(document)
    return corpus


def copies_of(reference: str, documents: Iterable[StdlibText]) -> list[StdlibText]:
    """The documents that share a run of `SHARED_RUN` characters or more with the reference.

    White space of any kind and length counts as one blank, so a text wrapped or indented
    in another way is still found.
    """
    reference = _one_blank(reference)
    blocks: dict[str, list[int]] = {}
    for i in range(0, len(reference) - _BLOCK + 1, _BLOCK):
        blocks.setdefault(reference[i : i + _BLOCK], []).append(i)
    return [
        d for d in documents if _longest_run(_one_blank(d.text), reference, blocks) >= SHARED_RUN
    ]


def _longest_run(text: str, reference: str, blocks: dict[str, list[int]]) -> int:
    """Characters of the first run of `SHARED_RUN` or more, else of the longest one found."""
    longest = 0
    for here in range(len(text) - _BLOCK + 1):
        for there in blocks.get(text[here : here + _BLOCK], ()):
            longest = max(longest, _run_around(text, here, reference, there))
            if longest >= SHARED_RUN:
                return longest
    return longest


def _run_around(text: str, here: int, reference: str, there: int) -> int:
    """Characters of the run that holds the equal blocks at `here` and `there`."""
    back, ahead = 0, _BLOCK
    while back < min(here, there) and text[here - back - 1] == reference[there - back - 1]:
        back += 1
    room = min(len(text) - here, len(reference) - there)
    while ahead < room and text[here + ahead] == reference[there + ahead]:
        ahead += 1
    return back + ahead


def _one_blank(text: str) -> str:
    """The text with each run of white space as one blank."""
    return re.sub(r"\s+", " ", text)


def _percentile(origin: str) -> int:
    """A number in [0, 100) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(origin.encode("utf-8")).digest()[:4], "big") % 100
