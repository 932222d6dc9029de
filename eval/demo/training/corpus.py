"""Corpus: the training and held-out text of the demo, without copies of the reference text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from eval.demo.reference_text import reference_text
from eval.demo.training.stdlib_text import TESTS, StdlibText, read_stdlib_texts

# A document that shares so many consecutive characters with the reference is a copy. White space
# of any length counts as one character.
SHARED_RUN = 200
_PROBE = SHARED_RUN // 2  # a run of 2N - 1 characters contains an aligned substring of N


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Training texts, held-out texts, and the texts dropped as copies of the reference.

    Parameters
    ----------
    train : list of StdlibText
        Texts for training, of files and modules that are not held out.
    held_out : list of StdlibText
        Docstrings and prose of the held-out files and modules.
    dropped : list of StdlibText
        Texts that share `SHARED_RUN` consecutive characters or more with the reference.
    """

    train: list[StdlibText]
    held_out: list[StdlibText]
    dropped: list[StdlibText]


def collect(*, held_out_percent: int = 4) -> Corpus:
    """The text of the standard library, split by file, without copies of the reference.

    Parameters
    ----------
    held_out_percent : int, percent of files and modules
        Chosen by a hash of the name, so that the choice does not depend on other files.

    Returns
    -------
    Corpus
        In a fixed order, without duplicates.
    """
    if not 1 <= held_out_percent <= 50:
        raise ValueError(
            f"held_out_percent must be in [1, 50], got {held_out_percent}; "
            "the rest is the training text"
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
    """The documents that share `SHARED_RUN` consecutive characters or more with the reference.

    White space of any kind and length counts as one space, so that line breaks and indentation do
    not hide a copy.
    """
    reference = _squeeze(reference)
    positions: dict[str, list[int]] = {}  # of each aligned substring
    for i in range(0, len(reference) - _PROBE + 1, _PROBE):
        positions.setdefault(reference[i : i + _PROBE], []).append(i)
    return [
        d for d in documents if _longest_run(_squeeze(d.text), reference, positions) >= SHARED_RUN
    ]


def _longest_run(text: str, reference: str, positions: dict[str, list[int]]) -> int:
    """Length of the first common run of at least `SHARED_RUN` characters, else of the longest."""
    longest = 0
    for i in range(len(text) - _PROBE + 1):
        for j in positions.get(text[i : i + _PROBE], ()):
            longest = max(longest, _run_around(text, i, reference, j))
            if longest >= SHARED_RUN:
                return longest
    return longest


def _run_around(text: str, i: int, reference: str, j: int) -> int:
    """Length of the common run around text[i : i + N] = reference[j : j + N], N = _PROBE."""
    back, ahead = 0, _PROBE
    while back < min(i, j) and text[i - back - 1] == reference[j - back - 1]:
        back += 1
    limit = min(len(text) - i, len(reference) - j)
    while ahead < limit and text[i + ahead] == reference[j + ahead]:
        ahead += 1
    return back + ahead


def _squeeze(text: str) -> str:
    """The text with white space of any length replaced by one space."""
    return re.sub(r"\s+", " ", text)


def _percentile(origin: str) -> int:
    """A number in [0, 100) computed from the name."""
    return int.from_bytes(hashlib.sha256(origin.encode("utf-8")).digest()[:4], "big") % 100
