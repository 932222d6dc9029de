"""in_context: figures of a line joined by the tokens and bytes that another line gives for them."""

import re
from collections.abc import Mapping

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
            near = next_after(counts, record) if record.label else last_before(counts, record)
            if near is not None:
                line = near.line
                source = {k: n for k, n in near.numbers.items() if k in COUNTS}
        first = rows.setdefault((record.label, line), record) if record.label else record
        if first is not record:  # another table has more figures of this row
            first.numbers = record.numbers | first.numbers
            continue
        records.append(record)
        if not {"tokens", "bytes"} & record.numbers.keys() and record not in counts:
            record.numbers.update(source)
    return Log(records, log.unusable, log.n_long)


def is_counts(record: Record) -> bool:
    """Whether a record gives tokens for others: of a text, with bytes, or of validation data."""
    if record.label or "tokens" not in record.numbers:
        return False
    return "bytes" in record.numbers or (
        "loss" not in record.numbers
        and "bpb" not in record.numbers
        and OF_VALIDATION.search(record.text) is not None
    )


def next_after(counts: list[Record], record: Record) -> Record | None:
    """The first counts below a record."""
    return next((one for one in counts if one.line > record.line), None)


def last_before(counts: list[Record], record: Record) -> Record | None:
    """The last counts above a record."""
    return next((one for one in reversed(counts) if one.line < record.line), None)
