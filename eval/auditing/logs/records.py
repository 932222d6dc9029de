"""Records of a log: the figures that stand together on a line, in an object or in a row."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from eval.auditing.logs.keys import COUNTS, Kind, kind_of
from eval.auditing.logs.printed import NUMBER, Printed, read_printed
from eval.auditing.logs.tables import Pairs, rows_of

MAX_LINES = 100_000
MAX_LINE = 1 << 12  # characters of a line that is read; longer ones are left out
PAIR = re.compile(
    r"(?<![\w./-])(?P<name>[A-Za-z][\w./-]{0,60}(?:,none)?(?: [A-Za-z][\w./()-]{0,30}){0,3})"
    r"(?<![,./-])[\"'*`)\]]{0,4}(?: {0,8}[:=]{1,2}[ \t]{0,20}|[ \t]{1,4})[\"'*`~]{0,3} ?"
    rf"(?P<number>{NUMBER.pattern})(?P<suffix>[KkMGB](?![A-Za-z]))?",
    re.IGNORECASE,
)
# Units behind a number; bytes alone may be those of a file.
AFTER = re.compile(
    rf"(?<![\w.,:=-])(?P<number>{NUMBER.pattern})(?P<suffix>[KkMGB])? ?\*{{0,2}} "
    r"?(?P<name>bits (?:per|a) byte|BPB|nats(?: per | a |/)token|tokens|bytes)\b(?!/)",
    re.IGNORECASE,
)
HINT = re.compile(r"bpb|loss|bits|nats|tokens|bytes|nll|entropy|perplexity", re.IGNORECASE)
SIGNATURE = re.compile(r"^BPB(?P<fields>(?:\|[^|]*)+) = (?P<bpb>[\d.]+)\s*$")


@dataclass
class Record:
    """Figures that belong together.

    Attributes
    ----------
    line : int
        Its number in the text, from 1; 0 for figures that were passed.
    text : str
        The line.
    numbers : dict
        The figures, by their kind.
    label : str
        First cell of a row of an aligned table, whose counts stand below it.
    """

    line: int
    text: str
    numbers: dict[Kind, Printed] = field(default_factory=dict)
    label: str = ""


@dataclass
class Log:
    """What was read of a text: records, and figures that cannot be.

    Attributes
    ----------
    records : list of Record
        In the order of the lines.
    unusable : list of (int, str)
        Line and text of figures that are no number > 0.
    n_long : int
        Lines that are too long to be read.
    n_more : int
        Lines after the first `MAX_LINES`, which are not read.
    """

    records: list[Record] = field(default_factory=list)
    unusable: list[tuple[int, str]] = field(default_factory=list)
    n_long: int = 0
    n_more: int = 0

    def add(self, line: int, text: str, pairs: Pairs, label: str = "") -> None:
        """Note the figures of a line, one record for each variant.

        A figure that comes a second time begins another record.
        """
        open_: dict[str, Record] = {}
        shared: dict[Kind, Printed] = {}
        for name, number in pairs:
            named = kind_of(name)
            if named is None:
                continue
            kind, variant = named
            value = read_printed(number, is_count=kind in COUNTS)
            if value is None:
                self.unusable.append((line, f"{name} {number}"[:80]))
                continue
            if kind in COUNTS and not variant:
                shared[kind] = value
                if open_ and all(kind in record.numbers for record in open_.values()):
                    open_.clear()
            record = open_.get(variant)
            if record is None or kind in record.numbers:
                record = open_[variant] = Record(line, text, label=label)
                self.records.append(record)
            record.numbers[kind] = value
        for record in open_.values():
            for kind, value in shared.items():
                record.numbers.setdefault(kind, value)


def pairs_of(line: str) -> Iterator[tuple[str, str]]:
    """(name, number) of each figure of a line such as ``val_loss:2.4007 val_bpb=1.0069``."""
    if (match := SIGNATURE.match(line)) is not None:
        for one in match["fields"].split("|"):
            name, _, value = one.partition(":")
            if name in COUNTS:
                yield name, value
        yield "bpb", match["bpb"]
        return
    found = {match.start("number"): match for match in AFTER.finditer(line)}
    names = {match["name"].lower() for match in found.values()}
    if "tokens" not in names:
        found = {at: match for at, match in found.items() if match["name"].lower() != "bytes"}
    found |= {match.start("number"): match for match in PAIR.finditer(line)
              if kind_of(match["name"]) is not None}  # fmt: skip
    for _, match in sorted(found.items()):
        yield match["name"], match["number"] + (match["suffix"] or "")


def object_pairs(value: Any, depth: int = 0) -> Iterator[list[tuple[str, str]]]:
    """The figures of each object within a value of JSON, whose numbers are texts."""
    if depth > 20:
        return
    if isinstance(value, dict):
        yield [(name, one) for name, one in value.items() if isinstance(one, str)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield from object_pairs(one, depth + 1)


def read_log(text: str) -> Log:
    """Every record of a text, a line, an object of JSON or a row of a table each."""
    log = Log()
    if text.lstrip()[:1] in ("{", "["):
        value = json_value(text)
        if value is not None:
            for pairs in object_pairs(value):
                log.add(1, " ".join(f"{name}: {number}" for name, number in pairs), pairs)
            return log
    lines = text.splitlines()
    log.n_more = max(0, len(lines) - MAX_LINES)
    lines = lines[:MAX_LINES]
    rows = {row[0]: row for row in rows_of([s if len(s) <= MAX_LINE else "" for s in lines])}
    for number, line in enumerate(lines, start=1):
        if number in rows:
            _, label, pairs = rows[number]
            log.add(number, line, pairs, label)
        elif line.lstrip()[:1] == "{" and (value := json_value(line)) is not None:
            for pairs in object_pairs(value):
                log.add(number, line, pairs)
        elif len(line) > MAX_LINE:
            log.n_long += 1
        elif HINT.search(line):
            log.add(number, line, list(pairs_of(line)))
    return log


def json_value(text: str) -> Any:
    """A value of JSON with its numbers as texts; None if the text is none."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
