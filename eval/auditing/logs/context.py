"""in_context: figures of a line joined by the tokens and bytes that another line gives for them."""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from eval.auditing.logs.keys import COUNTS, Kind
from eval.auditing.logs.printed import Printed
from eval.auditing.logs.records import Log, Record

# A line that gives the tokens of all lines below; other counts go with the lines next to them.
HEADER = re.compile(
    r"^\W*val_loader\b|\b(?:val|validation|eval|test)[ _]tokens\W{0,4}[:=]", re.IGNORECASE
)
REACH = 3  # lines
MAX_LOOKS = 100  # lines with counts that are looked at for a header


def in_context(log: Log, given: Mapping[Kind, Printed]) -> Log:
    """The log, with tokens and bytes for the records that have neither.

    They are those that are given; else those of the line with the counts below a table, as in the
    results of this package; else those of the line above that gives them for the validation data.
    Lines of one figure each that follow each other are one record.
    """
    counts = [record for record in log.records if is_counts(record)]
    records: list[Record] = []
    rows: dict[tuple[str, int], Record] = {}  # of aligned tables, by label and line of the counts
    for record in joined(log.records):
        source: dict[Kind, Printed] = dict(given)
        line = 0
        if not given:
            near = nearest(counts, record)
            if near is not None:
                line = near.line
                source = {k: n for k, n in near.numbers.items() if k in COUNTS}
        first = rows.setdefault((record.label, line), record) if record.label else record
        if first is not record:  # another table has more figures of this row
            first.numbers = record.numbers | first.numbers
            continue
        records.append(record)
        if not {"tokens", "bytes"} & record.numbers.keys() and not is_counts(record):
            record.numbers.update(source)
    return replace(log, records=records)


def joined(records: list[Record]) -> list[Record]:
    """The records, with lines of one figure each joined to those above until a figure repeats."""
    result: list[Record] = []
    last = 0  # line of the last figure that was joined
    for record in records:
        is_one = len(record.numbers) == 1 and not record.label
        if is_one and result and last == record.line - 1 and not result[-1].label:
            (kind,) = record.numbers
            if kind not in result[-1].numbers:
                both = result[-1].numbers | record.numbers
                text = f"{result[-1].text} {record.text}"
                result[-1], last = replace(result[-1], numbers=both, text=text), record.line
                continue
        result.append(record)
        last = record.line if is_one else 0
    return result


def is_counts(record: Record) -> bool:
    """Whether a record gives tokens for others: of a text, with bytes, or of validation data."""
    if record.label or "tokens" not in record.numbers:
        return False
    return "bytes" in record.numbers or (
        "loss" not in record.numbers
        and "bpb" not in record.numbers
        and HEADER.search(record.text) is not None
    )


def nearest(counts: list[Record], record: Record) -> Record | None:
    """The counts for a record: below a row of an aligned table, near or above another line."""
    i = bisect_right(counts, record.line, key=lambda one: one.line)
    below = counts[i] if i < len(counts) else None
    if record.label:
        return below
    for j in range(i - 1, -1, -1):
        if record.line - counts[j].line <= REACH or HEADER.search(counts[j].text):
            return counts[j]
        if i - j > MAX_LOOKS:
            break
    return below if below is not None and below.line - record.line <= REACH else None
