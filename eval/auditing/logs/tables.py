"""Tables of a log: Markdown, fields between tabs or commas, and columns that are aligned."""

import re
from collections.abc import Iterator

from eval.auditing.logs.keys import kind_of
from eval.auditing.logs.printed import NUMBER

Pairs = list[tuple[str, str]]
# Line number from 1, the first cell of a row of an aligned table (else empty), figures.
Row = tuple[int, str, Pairs]
RULE = re.compile(r"^[\s|:+-]*-{2,}[\s|:+-]*$")  # the line below a header
CELL = re.compile(r"\S+(?: \S+)*")  # cells of an aligned table stand two spaces apart
MARKS = ("|", "\t", ",")  # between cells
MAX_FIGURES = 256  # rows of a table with a figure on each


def rows_of(lines: list[str]) -> Iterator[Row]:
    """Each row of each table.

    Rows of two figures under no known header, ``| val_bpb | 1.0069 |``, are one record.
    """
    i = 0
    while i < len(lines):
        reader = delimited if any(mark in lines[i] for mark in MARKS) else aligned
        end, rows = reader(lines, i)
        yield from rows
        i = max(end, i + 1)


def delimited(lines: list[str], start: int) -> tuple[int, list[Row]]:
    """(line after the lines with this mark that begin here, the rows of tables among them)."""
    mark = next(mark for mark in MARKS if mark in lines[start])
    end = start + 1
    while end < len(lines) and mark in lines[end]:
        end += 1
    header: list[str] = []
    rows: list[Row] = []
    for i in range(start, end):
        row = cells(lines[i], mark)
        if is_header(row, mark):
            header = row
        elif header:
            pairs = [(name, number_of(cell)) for name, cell in zip(header, row, strict=False)]
            rows.append((i + 1, "", [(name, number) for name, number in pairs if number]))
    if not rows and mark == "|" and 1 < end - start <= MAX_FIGURES:
        return end, one_figure_a_row(lines, start, end)
    return end, rows


def is_header(row: list[str], mark: str) -> bool:
    """Whether the cells of a row are names, one known in Markdown and two elsewhere."""
    if any(map(number_of, row)):
        return False
    return sum(kind_of(name) is not None for name in row) >= (1 if mark == "|" else 2)


def one_figure_a_row(lines: list[str], start: int, end: int) -> list[Row]:
    """The rows of ``| val_bpb | 1.0069 |`` as one row of figures, at the first of them."""
    table = [(i, cells(lines[i], "|")) for i in range(start, end)]
    found = [
        (i, row[0], number)
        for i, row in table
        if len(row) >= 2 and kind_of(row[0]) and (number := number_of(row[1]))
    ]
    if not found:
        return []
    figures = [(name, number) for _, name, number in found]
    return [(i + 1, "", figures if i == found[0][0] else []) for i in range(start, end)]


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
