"""merged: the reports of several audits as one, which claims no more than the least of them."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ngrammix.auditing.report import AuditReport, Check

NUMBER = re.compile(r"\b\d[\d,]*\b")


def merged(subject: str, reports: Mapping[str, AuditReport], conditions: Any) -> AuditReport:
    """One report of several audits of a kind, by the names of what was audited.

    Findings, problems and remarks name theirs. A check that ran in several has the fewest
    positions and the largest share of them, so it holds for each.
    """
    checks: dict[tuple[str, ...], list[Check]] = {}
    for report in reports.values():
        for check in report.checks:
            # A name may hold a count of its own audit.
            name = NUMBER.sub("", check.name).replace("  ", " ")
            same = checks.setdefault((check.condition, name, check.unit), [])
            same.append(replace(check, name=name))
    return AuditReport(
        subject,
        tuple(
            replace(finding, message=f"{name}: {finding.message}")
            for name, report in reports.items()
            for finding in report.findings
        ),
        tuple(least(same, len(reports)) for same in checks.values()),
        named(reports, "problems"),
        named(reports, "remarks"),
        tuple(dict.fromkeys(text for report in reports.values() for text in report.not_checked)),
        conditions,
        sum(report.calls for report in reports.values()),
        sum(report.tokens_scored for report in reports.values()),
        sum(report.seconds for report in reports.values()),
    )


def least(checks: list[Check], n_reports: int) -> Check:
    """The check that holds for each of these, which are of one kind."""
    shares = [check.smallest_share for check in checks if check.smallest_share is not None]
    note = f"in each of {len(checks)} audits"
    if len(checks) < n_reports:
        note = f"in {len(checks)} of {n_reports} audits"
    return replace(
        min(checks, key=lambda check: check.tried),
        calls=sum(check.calls for check in checks),
        smallest_share=max(shares) if len(shares) == len(checks) else None,
        note=note,
        is_enough=all(check.is_enough for check in checks),
    )


def named(reports: Mapping[str, AuditReport], part: str) -> tuple[str, ...]:
    """The sentences of a part of each report, each with the names that it holds for."""
    names: dict[str, list[str]] = {}
    for name, report in reports.items():
        for sentence in getattr(report, part):
            names.setdefault(sentence, []).append(name)
    return tuple(
        sentence if len(holders) == len(reports) else f"{', '.join(holders)}: {sentence}"
        for sentence, holders in names.items()
    )
