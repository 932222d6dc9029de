"""audit_bytes: whether the bytes charged to tokens are the raw bytes of their text."""

import hashlib
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from eval.auditing.token_bytes.charges import (
    Charges,
    Function,
    Sequence,
    Table,
    Total,
    read_charges,
)
from eval.auditing.token_bytes.findings import Findings
from eval.auditing.token_bytes.known_bugs import token_of
from eval.auditing.token_bytes.tally import (
    Part,
    Tally,
    count,
    documents_of,
    encoded,
    given,
    with_bos,
)
from eval.auditing.token_bytes.text_changes import PRIVATE
from eval.auditing.token_bytes.totals import explain_total
from eval.auditing.token_bytes.vocabulary import Vocabulary, vocabulary_of
from ngrammix.auditing.environment import environment
from ngrammix.auditing.report import AuditReport, Check, Finding
from ngrammix.auditing.witness import Witness

MAX_PROBLEMS = 3  # texts that cannot be encoded, named in the report


def audit_bytes(
    tokenizer: Any,
    text: Any,
    token_bytes: Any = None,
    *,
    tokens: Any = None,
    token_bytes_per: str | None = None,
) -> AuditReport:
    """Whether the bytes of the tokens sum to the raw bytes of each document, and if not, why.

    The bytes of a text are the denominator of bits per byte. The known bugs are recognised by what
    they charge to which tokens, and named in the message; the witness holds the smallest text that
    was found to show them.

    Parameters
    ----------
    tokenizer : path or object
        What `load_tokenizer` takes, or any object with ``encode(text)`` and ``decode(ids)``.
    text : str, bytes, Path, data set, or a list of them
        The raw text. A str is the text itself, and each element of a list a document. A Path is
        read as `open_data` reads it.
    token_bytes : array, function, tuple, int or path, optional
        What a harness charges: V numbers, the bytes of each id, as list, array, tensor or ``.npy``
        file; a function of an id, or a mapping; one number for each token of the text; the three
        arrays of Parameter Golf (bytes, leading space, boundary); or one int, the bytes of the
        whole text. Default: the tokenizer's own.
    tokens : array or list of arrays, optional
        The ids that the harness scores for the text: one array for all documents, or one for each.
        Default: the text is encoded.
    token_bytes_per : str, optional
        ``id`` or ``token``: which of the two an array is. Default: its length tells.

    Returns
    -------
    AuditReport
        ``legal`` if every document has its raw bytes. ``guilty`` with a finding for each bug.
        ``unknown`` if there is no document, or one cannot be encoded.

    Raises
    ------
    ValueError
        If an argument is of another kind, or `token_bytes` may be of ids or of tokens.

    Examples
    --------
    >>> audit_bytes("bytes", ["one", "two"], [1] * 256).verdict
    'legal'
    """
    began = perf_counter()
    vocabulary = vocabulary_of(tokenizer)
    data = documents_of(text, vocabulary)
    results = list(encoded(data, vocabulary) if tokens is None else given(data, tokens, vocabulary))
    parts = [one for one in results if isinstance(one, Part)]
    problems = [str(one) for one in results if not isinstance(one, Part)]
    n_tokens = sum(len(part.tokens) for part in parts)
    charges: Charges | None = None
    if token_bytes is not None:
        n_bos = 0 if vocabulary.bos is None else sum(part.begins for part in parts)
        lengths = (n_tokens, n_tokens + n_bos)  # a side-car may have an entry for each BOS
        charges = read_charges(token_bytes, vocabulary, lengths, token_bytes_per)
        if isinstance(charges, Sequence) and len(charges.numbers) == lengths[1] > n_tokens:
            parts, n_tokens = with_bos(parts, vocabulary.bos), lengths[1]
    wrong_length = length_findings(charges, vocabulary, parts, n_tokens)
    is_cut = bool(wrong_length) and isinstance(charges, Sequence)
    tally = Tally() if is_cut else count(parts, vocabulary, charges, is_given=tokens is not None)
    findings = [*wrong_length, *findings_of(vocabulary, charges, tally, parts, tokens is not None)]
    remarks = [] if findings else other_entries(vocabulary, charges, tally)
    if not parts and not problems:
        problems = ["there must be a text, got no document; pass one"]
    return AuditReport(
        subject=f"bytes of the tokens of {vocabulary.name}",
        findings=tuple(findings),
        checks=tuple(checks_of(tally, charges)) if parts else (),
        problems=tuple(shorten(problems)),
        remarks=(*remarks, *remarks_of(text, parts, findings, tally)),
        not_checked=(
            "whether a harness scores this text, all of it and nothing else",
            "token ids that the text does not hold",
        ),
        conditions={
            "tokenizer": vocabulary.name,
            "vocab_size": vocabulary.size,
            "documents": tally.n_documents,
            "tokens": tally.n_tokens,
            "bytes": tally.n_bytes,
            "text_sha256": digest(parts),
            **environment(),
        },
        seconds=perf_counter() - began,
    )


def findings_of(
    vocabulary: Vocabulary,
    charges: Charges | None,
    tally: Tally,
    parts: list[Part],
    is_given: bool,
) -> list[Finding]:
    """Everything that is wrong with the bytes."""
    make = Findings(vocabulary, charges, tally, is_given=is_given)
    found = [*make.of_malformed(), *make.of_special(), *make.of_tokens(), *make.of_changes()]
    if isinstance(charges, Total) and charges.n_bytes != tally.n_bytes:
        texts = [part.raw for part in parts]
        tokens = {i: token_of(vocabulary, i) for i in tally.counts}
        why = explain_total(charges.n_bytes, texts, tally.counts, tokens)
        found.append(make.of_total(charges.n_bytes, why))
    return found or make.of_sums()


def length_findings(
    charges: Charges | None, vocabulary: Vocabulary, parts: list[Part], n_tokens: int
) -> list[Finding]:
    """A finding if there are more or fewer numbers than tokens or ids."""
    if isinstance(charges, Sequence):
        right, found, of = n_tokens, len(charges.numbers), "tokens of the text"
    elif isinstance(charges, Table) and vocabulary.size is not None:
        right, found, of = vocabulary.size, len(charges.entries), "ids of the tokenizer"
        special = set(vocabulary.special())
        missing = range(found, right)
        is_padded = found > right and not charges.entries[right:].any()
        if is_padded or all(i in special or not vocabulary.token(i) for i in missing):
            right = found if is_padded or found < right else right
    else:
        return []
    if right == found:
        return []
    return [
        Finding(
            "bytes",
            None,
            Witness("bytes", (float(right), float(found)), "numbers"),
            f"token_bytes must have one number for each of the {right} {of}, got {found}; take "
            "the numbers and the tokenizer of one run",
        )
    ]


def checks_of(tally: Tally, charges: Charges | None) -> list[Check]:
    """What was compared, and how much of it."""
    n, everything = tally.n_documents, 0.0
    checks = [
        Check("bytes", "bytes of the tokens against the raw bytes of each document", n,
              "documents", smallest_share=everything),
        Check("bytes", "tokens decoded against the raw text", tally.n_tokens, "tokens",
              smallest_share=everything),
    ]  # fmt: skip
    if isinstance(charges, Table):
        name = "entries of the table are whole numbers >= 0, and 0 for special tokens"
        checks.append(Check("bytes", name, len(charges.entries), "entries", smallest_share=0.0))
    elif isinstance(charges, Function):
        name = "numbers of the function are whole numbers >= 0"
        checks.append(Check("bytes", name, len(tally.counts), "ids", smallest_share=0.0))
    return checks


def other_entries(vocabulary: Vocabulary, charges: Charges | None, tally: Tally) -> list[str]:
    """A remark if entries of ids that the text does not hold are not the bytes of their tokens."""
    if not isinstance(charges, Table) or vocabulary.size is None:
        return []
    ids = np.arange(min(vocabulary.size, len(charges.entries)))
    entries, lengths = charges.entry(ids), vocabulary.lengths(ids)
    is_held = np.isin(ids, list(tally.counts))
    wrong = np.flatnonzero((entries != lengths) & ~is_held)
    if not len(wrong):
        return []
    i = int(wrong[0])
    return [
        f"{len(wrong):,} ids that the text does not hold have another entry than their bytes, such "
        f"as {i} with {entries[i]:g} for {lengths[i]}: audit a text with these tokens"
    ]


def remarks_of(text: Any, parts: list[Part], findings: list[Finding], tally: Tally) -> list[str]:
    """What a reader should know and what is no proof."""
    remarks = []
    if isinstance(text, str) and len(text) < 4096 and "\n" not in text and "\0" not in text:
        try:
            is_file = Path(text).is_file()
        except (OSError, ValueError):  # no name that a file can have
            is_file = False
        if is_file:
            remarks.append("the text is also the name of a file: pass Path(text) to audit the file")
    if not all(part.is_text for part in parts):
        remarks.append(
            "the data are tokens: their bytes are those that the tokenizer decodes, and the text "
            "that they were made of is not known"
        )
    if any(PRIVATE.search(part.raw.decode("utf-8", "ignore")) for part in parts):
        remarks.append(
            "the text has characters for private use: if they are sentinels of a lossless "
            "transform, pass the text before it, whose bytes count"
        )
    if tally.changed and tally.wrong and not (findings or tally.documents):
        remarks.append(
            "the tokens decode to another text, and the bytes given for them sum to those of this "
            "one: whether the transform loses nothing is not checked"
        )
    return remarks


def shorten(problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    shown = problems[:MAX_PROBLEMS]
    return shown + ([f"{more:,} more documents cannot be encoded"] if more > 0 else [])


def digest(parts: list[Part]) -> str:
    """The beginning of the SHA-256 of the raw text, in hexadecimal digits."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.raw)
    return state.hexdigest()[:16]
