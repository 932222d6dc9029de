"""Tables of a log: Markdown, fields between tabs or commas, and columns that are aligned."""

import re
from collections.abc import Iterator

from eval.auditing.log_keys import kind_of
from eval.auditing.printed import NUMBER

Pairs = list[tuple[str, str]]
# Line number from 1, the first cell of a row of an aligned table (else empty), figures.
Row = tuple[int, str, Pairs]
RULE = re.compile(r"^[\s|:+-]*-{2,}[\s|:+-]*$")  # the line below a header
CELL = re.compile(r"\S+(?: \S+)*")  # cells of an aligned table stand two spaces apart
MARKS = re.compile(r"[*`~_]")


def rows_of(lines: list[str]) -> Iterator[Row]:
    """Each row of each table.

    Rows of two figures under no known header, ``| val_bpb | 1.0069 |``, are one record.
    """
    i = 0
    while i < len(lines):
        reader = delimited if "|" in lines[i] or "\t" in lines[i] or "," in lines[i] else aligned
        end, rows = reader(lines, i)
        yield from rows
        i = max(end, i + 1)


def delimited(lines: list[str], start: int) -> tuple[int, list[Row]]:
    """(line after a table that begins here, its rows); no rows if none begins."""
    mark = next(mark for mark in ("|", "\t", ",") if mark in lines[start])
    is_markdown = mark == "|"
    header = cells(lines[start], mark)
    known = [kind_of(name) for name in header]
    is_table = sum(kind is not None for kind in known) >= (1 if is_markdown else 2)
    has_number = any(number_of(cell) for cell in header)
    end = start + 1
    while end < len(lines) and mark in lines[end]:
        end += 1
    body = [(i, cells(lines[i], mark)) for i in range(start + 1, end) if not RULE.match(lines[i])]
    if is_table and not has_number and body:
        rows = []
        for i, row in body:
            pairs = [(n, number_of(c)) for n, c in zip(header, row, strict=False)]
            rows.append((i + 1, "", [(name, number) for name, number in pairs if number]))
        return end, rows
    if is_markdown and end - start > 1:  # a figure on each row
        table = [(i, cells(lines[i], mark)) for i in range(start, end)]
        triples = [(i, row[0], number_of(row[1])) for i, row in table if len(row) >= 2]
        found = [(i, name, number) for i, name, number in triples if number and kind_of(name)]
        if found:
            return end, [(found[0][0] + 1, "", [(name, number) for _, name, number in found])]
    return start + 1, []


def aligned(lines: list[str], start: int) -> tuple[int, list[Row]]:
    """The same for a table whose columns are aligned, below a header and a line of dashes."""
    if start + 1 >= len(lines) or not RULE.match(lines[start + 1]):
        return start + 1, []
    header = [(m.start(), m.end(), m[0]) for m in CELL.finditer(lines[start])]
    if not any(kind_of(name) for _, _, name in header):
        return start + 1, []
    rows, end = [], start + 2
    while end < len(lines) and lines[end].strip():
        pairs = []
        for cell in CELL.finditer(lines[end]):
            for left, right, name in header:
                if (cell.end() == right or cell.start() == left) and (n := number_of(cell[0])):
                    pairs.append((name, n))
        rows.append((end + 1, lines[end].split("  ")[0], pairs))
        end += 1
    return end, rows


def cells(line: str, mark: str) -> list[str]:
    """The cells of a row, without marks for bold type or code."""
    if mark == "|":
        line = line.strip().removeprefix("|").removesuffix("|")
    parts = line.split(mark)
    return [re.sub(r"\s+", " ", re.sub(r"[*`]", "", part)).strip() for part in parts]


def number_of(cell: str) -> str:
    """The number that a cell begins with, as it is printed; empty if it does not."""
    match = re.match(rf"(?:{NUMBER.pattern})", cell.strip().lstrip("~"), re.IGNORECASE)
    if match is None:
        return ""
    rest = cell.strip().lstrip("~")[match.end() :].strip()
    if rest[:1] in ("K", "k", "M", "G", "B") and not rest[1:2].isalpha():
        return match[0] + rest[0]
    is_alone = not rest or rest[0] in "(±+" or rest.startswith(("bytes", "tokens", "nats", "BPB"))
    return match[0] if is_alone else ""
