"""What is shown: cells of CSV files, the file that a picture shows, text on the terminal."""

import csv
import io
from pathlib import Path

from tests.fuzz.reader import Reader, write
from tests.fuzz.verdict import WrongError

FORMULAS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def read_csv_cell(data: bytes, folder: Path) -> None:
    """The bytes of a text go through a CSV file, and no spreadsheet runs them."""
    from eval import read_cell
    from eval.scoring.csv_cells import to_cell

    file = io.StringIO(newline="")
    csv.writer(file).writerow([to_cell(data), "next"])
    ((cell, _),) = csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True)
    if read_cell(cell) != data:
        raise WrongError(f"read back as {read_cell(cell)!r}")
    if cell.startswith(FORMULAS):
        raise WrongError(f"a formula: {cell!r}")


def read_picture(data: bytes, folder: Path) -> None:
    """The curve of a tokens.csv grows from 0 to its totals."""
    from eval.plots import read_curve

    if read_curve(write(folder, data, ".csv"), max_points=10)[0].any():
        raise WrongError("the curve does not begin at 0")


def show(data: bytes, folder: Path) -> None:
    """Text on the terminal is one line, and holds nothing that controls it."""
    from ngrammix.escaping import escaped

    shown = escaped(data.decode("utf-8", "surrogateescape"))
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown):
        raise WrongError(f"it controls the terminal: {shown!r}")


READERS = {
    "csv-cell": Reader(read_csv_cell, named=None),
    "picture": Reader(read_picture),
    "terminal": Reader(show, named=None),
}
