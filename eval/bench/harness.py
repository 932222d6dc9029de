"""The harness of the benches: options, conditions, the JSON file, the printed report.

A bench is a module with a `BENCH`: its options, a function that measures, and a report.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

from tabulate import tabulate

from eval.bench.options import Option
from eval.files.lock import hold
from eval.files.results import check_results, write_report
from eval.tables import sign
from eval.terminal import show

Figures = dict[str, Any]

WIDTH = 96  # characters of a printed line


class Table(NamedTuple):
    """A table of a report.

    Attributes
    ----------
    rows : str or callable
        Key of the rows in the figures, or a function from the figures to the rows.
    columns : mapping
        Header to the template of its cells, such as ``"{seconds:.2f} s"``. A column without a
        format is text, to the left; a cell whose figure is missing or None is a dash.
    """

    rows: str | Callable[[Figures], list[Figures]]
    columns: Mapping[str, str]

    def cells(self, figures: Figures) -> list[list[str]]:
        """Text of the cells, row by row."""
        rows = figures[self.rows] if isinstance(self.rows, str) else self.rows(figures)
        return [[fill_in(cell, row) or "-" for cell in self.columns.values()] for row in rows]

    def text(self, figures: Figures) -> str:
        """Lines of the table; empty without rows."""
        if not (cells := self.cells(figures)):
            return ""
        text: str = tabulate(
            cells,
            list(self.columns),
            disable_numparse=True,
            colalign=["right" if ":" in cell else "left" for cell in self.columns.values()],
        )
        return text


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A bench: what it measures, and how its figures are shown.

    Attributes
    ----------
    measure : callable
        From the parsed arguments to the figures, which JSON can hold.
    report : sequence of Table or str
        The tables and paragraphs that are printed. A paragraph is a template of the figures; it is
        left out if a figure is missing, or is None and has a format.
    options : sequence of Option
        Of `eval.bench.options.OPTIONS`; beside ``--out`` and ``--json``.
    draw : callable, optional
        Draws the figures into a folder, with ``--out``.
    """

    measure: Callable[[argparse.Namespace], Figures]
    report: Sequence[Table | str]
    options: Sequence[Option] = ()
    draw: Callable[[Figures, Path], object] = lambda figures, folder: None

    def run(self, name: str, arguments: argparse.Namespace) -> None:
        """Check the options, measure, write NAME.json under --out, and print the report."""
        values = {}
        for option in self.options:
            key = option.name.replace("-", "_")
            values[key] = option.check(getattr(arguments, key))
        with hold(out=arguments.out):
            check_results(arguments.out, (f"{name}.json",), overwrite=True)
            figures = values | self.measure(arguments)
            text = json.dumps(figures, indent=2) + "\n"
            try:
                show(text if arguments.json else self.text(name, figures, list(values)))
            finally:
                if arguments.out:
                    write_report(arguments.out / f"{name}.json", text)
                    self.draw(figures, arguments.out)

    def text(self, name: str, figures: Figures, conditions: Sequence[str]) -> str:
        """The figures of these keys in one line, then the report."""
        keys = ("model", "data", "tokens", *conditions)
        shown = {key: figures.get(key) for key in keys if not isinstance(figures.get(key), list)}
        paragraphs = [sign(f"bench {name}", shown)]
        for part in self.report:
            if isinstance(part, Table):
                paragraphs.append(part.text(figures))
            else:
                text = fill_in(part, figures)
                paragraphs.append(fill(text, WIDTH, break_on_hyphens=False, break_long_words=False))
        return "\n\n".join(filter(None, paragraphs))


def fill_in(template: str, figures: Figures) -> str:
    """The template with its figures; empty if one is missing, or is None and has a format."""
    try:
        return template.format_map(figures)
    except (KeyError, TypeError):  # TypeError: None has no format
        return ""


def rows_of(figures: Figures, names: Mapping[str, str], *fields: str) -> list[Figures]:
    """A row for each name: {"name": its label} and each field, of the key FIELD_NAME."""
    return [
        {"name": label} | {field: figures.get(f"{field}_{name}") for field in fields}
        for name, label in names.items()
    ]
