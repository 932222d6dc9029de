"""in_context: figures of a line joined by the tokens and bytes that another line gives for them."""

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from eval.auditing.log_keys import COUNTS, Kind
from eval.auditing.log_lines import Log, Record
from eval.auditing.printed import Printed

OF_VALIDATION = re.compile(r"val|eval|test", re.IGNORECASE)


def in_context(log: Log, given: Mapping[Kind, Printed]) -> Log:
    """The log, with tokens and bytes for the records that have neither.

    They are those that are given; else those of the line with the counts below a table, as in the
    results of this package; else those of the line above that gives them for the validation data.
    """
    counts = [record for record in log.records if is_counts(record)]
    records: list[Record] = []
    rows: dict[tuple[str, int], Record] = {}  # of aligned tables, by label and line of the counts
    for record in log.records:
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


def is_counts(record: Record) -> bool:
    """Whether a record gives tokens for others: of a text, with bytes, or of validation data."""
    if record.label or "tokens" not in record.numbers:
        return False
    return "bytes" in record.numbers or (
        "loss" not in record.numbers
        and "bpb" not in record.numbers
        and OF_VALIDATION.search(record.text) is not None
    )


def nearest(counts: list[Record], record: Record) -> Record | None:
    """The counts for a record: below a row of an aligned table, above another line."""
    i = bisect_right(counts, record.line, key=lambda one: one.line)
    if record.label:
        return counts[i] if i < len(counts) else None
    while i > 0 and counts[i - 1] is record:
        i -= 1
    return counts[i - 1] if i > 0 else None
