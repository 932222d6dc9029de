"""audit_log: whether the figures of a published log line can all be true."""

import os
from pathlib import Path
from time import perf_counter
from typing import Any

from eval.auditing.logs.context import in_context
from eval.auditing.logs.judge import judge
from eval.auditing.logs.keys import COUNTS, Kind
from eval.auditing.logs.printed import Printed, printed
from eval.auditing.logs.records import MAX_LINES, Log, Record, read_log
from ngrammix.auditing.environment import environment
from ngrammix.auditing.report import AuditReport, Check
from ngrammix.reading import read_start

MAX_TEXT = 1 << 22  # characters of a log
MAX_SHOWN = 3  # lines of a kind that a remark names


def audit_log(
    loss: Any = None,
    tokens: Any = None,
    bytes: Any = None,  # noqa: A002  the name of the figure
    bpb: Any = None,
    *,
    text: str | os.PathLike[str] | None = None,
) -> AuditReport:
    """Whether loss, tokens, bytes and bits per byte of a log line can all be true.

    ``bytes = loss / ln 2 * tokens / bpb``. Three of the four give the fourth, which is told. Four
    must agree, to the digits that are printed: a figure is never accused because it was rounded.
    The totals of FineWeb's validation set, and the wrong totals that known bugs make of it, are
    recognised.

    Parameters
    ----------
    loss : float or str, optional
        Nats a token. A str keeps the digits that were printed, zeros at the end too.
    tokens, bytes : int or str, optional
        Tokens that were scored, and raw bytes of their text.
    bpb : float or str, optional
        Bits per byte.
    text : str or path, optional
        Log lines, in which the figures are looked for by their names: ``val_loss:2.40
        val_bpb=1.07``, objects of JSON, tables of Markdown, results and signatures of this package.
        A str is the text itself, a path is a file. `tokens` and `bytes` then go with each line that
        has neither.

    Returns
    -------
    AuditReport
        ``guilty`` with a finding for each line whose figures contradict each other or what is known
        of the data; its position is the number of the line. ``legal`` if a line could be checked
        and none is wrong. ``unknown`` if there was nothing to check; the report says what lacks.

    Raises
    ------
    ValueError
        If a figure is no number > 0, or the text is too long.

    Examples
    --------
    >>> audit_log(2.40073153, 47_851_520, None, 1.00692894).verdict
    'guilty'
    >>> audit_log(2.4007, 47_851_520, 151_074_499, 1.0971).verdict
    'legal'
    """
    began = perf_counter()
    given: dict[Kind, Printed] = {}
    values: tuple[tuple[Kind, Any], ...] = (
        ("loss", loss), ("tokens", tokens), ("bytes", bytes), ("bpb", bpb),
    )  # fmt: skip
    for kind, value in values:
        if value is not None:
            given[kind] = printed(value, kind, is_count=kind in COUNTS)
    if text is None:
        log = Log()
        if given:
            line = " ".join(f"{kind}={value}" for kind, value in values if kind in given)
            log.records.append(Record(0, line, given))
    else:
        if alone := [name for name in ("loss", "bpb") if name in given]:
            raise ValueError(
                f"{' and '.join(alone)} must be left out with text, which has its own; pass tokens "
                "and bytes at most"
            )
        log = read_log(text_of(text))
        log = in_context(log, given)
    return report_of(log, began)


def text_of(text: str | os.PathLike[str]) -> str:
    """The text of a log, itself or a file; ValueError if it is too long."""
    if isinstance(text, os.PathLike):
        path = Path(text)
        if not path.is_file():
            raise ValueError(f"a log must be a file, got {path}; check the path")
        text = read_start(path, MAX_TEXT + 1).decode("utf-8", "replace")
    if not isinstance(text, str):
        raise ValueError(
            f"text must be str or a path, got {type(text).__name__}; pass the lines of the log"
        )
    if len(text) > MAX_TEXT:
        raise ValueError(
            f"a log must have at most {MAX_TEXT:,} characters, got more; pass the lines with the "
            "figures"
        )
    return text


def report_of(log: Log, began: float) -> AuditReport:
    """The report on all records of a log."""
    judged = [judge(record) for record in log.records]
    findings = [one.finding for one in judged if one.finding is not None]
    checked = [one for one in judged if one.outcome != "open"]
    open_ = [one for one in judged if one.outcome == "open"]
    lacks = [one.lacks for one in open_ if one.lacks]
    problems: list[str] = []
    if not checked:
        problems = lacks[:MAX_SHOWN] or ["no figure of a loss, of tokens, bytes or bits per byte "
                                         "was found; pass them by their names"]  # fmt: skip
    remarks = [remark for one in judged for remark in one.remarks]
    if checked and lacks:
        remarks.append(f"lines with too few figures to be checked: {len(lacks):,}; {lacks[0]}")
    if log.unusable:
        line, figure = log.unusable[0]
        remarks.append(
            f"figures that are no number > 0, and were left out: {len(log.unusable):,}; the first "
            f"is {figure!r} in line {line}"
        )
    if log.n_long:
        remarks.append(f"lines that are too long to be read: {log.n_long:,}")
    if log.n_more:
        problems.append(
            f"a log must have at most {MAX_LINES:,} lines, got {log.n_more:,} more, which are not "
            "read; pass them in parts"
        )
    more = len(remarks) - 4 * MAX_SHOWN
    shown = remarks[: 4 * MAX_SHOWN] + ([f"{more:,} more remarks"] if more > 0 else [])
    names = {"perplexity": "bits per byte against the perplexity of a byte",
             "bytes": "loss / ln 2 * tokens / bytes against bits per byte",
             "known": "bytes against the known totals of a data set",
             "tokens": "bytes of a token within what a text can have"}  # fmt: skip
    checks = [
        Check("bytes", name, n, "lines", smallest_share=0.0)
        for key, name in names.items()
        if (n := sum(key in one.checks for one in judged))
    ]
    return AuditReport(
        subject="figures" if all(r.line == 0 for r in log.records) else "figures of a log",
        findings=tuple(findings),
        checks=tuple(checks),
        problems=tuple(problems),
        remarks=tuple(shown),
        not_checked=(
            "whether the tokens were scored as the figures say: audit the scorer",
            "whether the bytes are those of the text: audit the tokenizer with audit_bytes",
        ),
        conditions={"lines": len(log.records), **environment()},
        seconds=perf_counter() - began,
    )
