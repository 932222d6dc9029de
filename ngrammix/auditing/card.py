"""The report of an audit as text, and as the Markdown card that people paste into a pull request.

The verdict comes first, then the proofs, what was and was not checked, and what the audit ran on.
Long streams are shortened here; `ngrammix.auditing.report_json` writes them whole.
"""

import re
from collections.abc import Iterator
from textwrap import wrap

from ngrammix.auditing.report import CONDITIONS, AuditReport, Check, Finding
from ngrammix.auditing.report_json import to_json
from ngrammix.auditing.wording import counted, coverage, describe_witness, figure, shorten
from ngrammix.escaping import escaped

WIDTH = 96  # columns of the text
MAX_FINDINGS = 10  # shown of each report; JSON has them all
MAX_VALUE = 600  # characters of a condition, a message or a problem
PUNCTUATION = re.compile(r"[\\`*_{}\[\]|#~]")  # what Markdown may take for its own
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}  # @: it would call a person
LINK = re.compile(r"(:)(?=//)|(?<=www)(\.)", re.IGNORECASE)  # makes one of a plain address
VERDICTS = {
    "legal": "no violation was found by any of the checks below",
    "guilty": "broken: ",
    "unknown": "no violation was found, but the audit could not tell",
}


def as_text(report: AuditReport) -> str:
    """The report as lines of at most 96 columns."""
    lines = [f"{report.verdict.upper()}  {plain(report.subject)}", *fold(summary(report), "  ")]
    for finding in report.findings[:MAX_FINDINGS]:
        lines += ["", f"{heading(finding)}", *fold(plain(finding.message), "  ")]
        for line in describe_witness(finding.witness):
            lines += fold(plain(line), "    ")
    lines += rest_of(report)
    for title, sentences in sections(report):
        lines += ["", title]
        for sentence in sentences:
            lines += fold(plain(sentence), "  ")
    return "\n".join([*lines, ""])


def as_markdown(report: AuditReport) -> str:
    """The report as a card of Markdown; no text in it can become a link, a tag or a mention."""
    lines = [f"**{report.verdict}**: {marked(report.subject)}", "", marked(summary(report))]
    for finding in report.findings[:MAX_FINDINGS]:
        lines += ["", f"**{heading(finding)}**", "", marked(finding.message), ""]
        lines += [f"- {marked(line)}" for line in describe_witness(finding.witness)]
    lines += rest_of(report)
    if report.checks:
        lines += ["", "| | check | tried | calls | coverage |", "|---|---|---:|---:|---|"]
        lines += ["| " + " | ".join(map(marked, cells_of(check))) + " |" for check in report.checks]
    for title, sentences in sections(report):
        if title != "checked":
            lines += ["", f"{title}:", "", *(f"- {marked(sentence)}" for sentence in sentences)]
    return "\n".join([*lines, ""])


def texts_of(report: AuditReport) -> dict[str, str]:
    """The report in all formats: ``text``, ``markdown`` and ``json``."""
    return {"text": as_text(report), "markdown": as_markdown(report), "json": to_json(report)}


def summary(report: AuditReport) -> str:
    """The verdict in one sentence."""
    said = VERDICTS[report.verdict]
    if report.verdict == "guilty":
        broken = sorted({finding.condition for finding in report.findings})
        return said + "; ".join(f"{name}, {CONDITIONS[name]}" for name in broken)
    short = [check.name for check in report.checks if not check.is_enough]
    if report.verdict == "unknown" and short and not report.problems:
        said += ": too little was tried"
    return said


def heading(finding: Finding) -> str:
    """The condition, and the position if there is one."""
    place = "" if finding.position is None else f" at position {finding.position:,}"
    return f"{finding.condition}{place}"


def rest_of(report: AuditReport) -> list[str]:
    """What says that there are more findings than are shown."""
    more = len(report.findings) - MAX_FINDINGS
    return ["", f"and {more:,} more: see the report in JSON"] if more > 0 else []


def sections(report: AuditReport) -> Iterator[tuple[str, list[str]]]:
    """(title, sentences) of the parts below the findings, without the empty ones."""
    checks = []
    for check in report.checks:
        condition, name, tried, calls, covered = cells_of(check)
        work = f"{tried}, {counted(check.calls, 'calls')}" if calls else tried
        checks.append(f"{condition}  {name}: {work}{f'; {covered}' if covered else ''}")
    is_unknown = report.verdict == "unknown"
    parts = {
        "why no verdict can be given" if is_unknown else "what stopped the audit": report.problems,
        "checked": checks,
        "not checked": report.not_checked,
        "remarks": report.remarks,
        "conditions": describe_conditions(report),
    }
    for title, sentences in parts.items():
        if sentences:
            yield title, list(sentences)


def cells_of(check: Check) -> tuple[str, str, str, str, str]:
    """Condition, name, what was tried, calls and coverage of a check."""
    said = coverage(check.smallest_share, check.unit)
    parts = [said, "" if check.is_enough else "too little for a verdict", check.note]
    covered = "; ".join(filter(None, parts))
    tried = counted(check.tried, check.unit)
    return check.condition, check.name, tried, f"{check.calls:,}" if check.calls else "", covered


def describe_conditions(report: AuditReport) -> list[str]:
    """What the audit ran on, and what it took, a line each."""
    lines = [
        f"{key.replace('_', ' ')}: {figure(value) if isinstance(value, float) else value}"
        for key, value in report.conditions.items()
        if value is not None
    ]
    took = [f"{report.seconds:.1f} seconds"]
    if report.calls:
        took.append(f"{counted(report.calls, 'calls')} of the scorer")
    if report.tokens_scored:
        took.append(f"{counted(report.tokens_scored, 'tokens')} scored")
    return [*lines, f"took: {', '.join(took)}"]


def plain(text: str) -> str:
    """A text for a terminal, on one line."""
    return escaped(shorten(text, MAX_VALUE))


def marked(text: str) -> str:
    """A text for Markdown, on one line, that is nothing but text there."""
    text = PUNCTUATION.sub(lambda found: f"\\{found[0]}", plain(text))
    text = "".join(ENTITIES.get(char, char) for char in text)
    return LINK.sub(lambda found: f"&#{ord(found[0])};", text)


def fold(text: str, indent: str) -> list[str]:
    """The text in lines of at most 96 columns; a line that goes on is indented further."""
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
                break_on_hyphens=False) or [indent.rstrip()]  # fmt: skip
