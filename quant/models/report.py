"""What quantization did to each tensor, in figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = ("tensor", "role", "shape", "quantizer", "bits", "rel. MSE", "error", "share", "s")
LEFT = 4  # columns of text


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """What became of a tensor.

    Attributes
    ----------
    name, role : str
        The role as in `quant.models.parameters`; "buffer" for what is no parameter.
    shape : tuple of int
    quantizer : str
        "keep", "float16", or what it was quantized with.
    bits_per_weight : float
        Codes and side arrays, before compression.
    relative_mse : float
        Sum of squared errors in squares of the weight.
    error : float or None
        What the errors cost by `Calibration.error`: ``sum(g * diag(E H Eᵀ))``. With Fisher
        information, half of it is about what they add to the loss of a token, in nats. None
        where calibration did not reach, and of what is kept.
    share : float or None
        Of the errors of all tensors.
    seconds : float
    damp : float or None
        What GPTQ used.
    notes : tuple of str
        Warnings, and what was done otherwise than asked.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    quantizer: str
    bits_per_weight: float
    relative_mse: float = 0.0
    error: float | None = None
    share: float | None = None
    seconds: float = 0.0
    damp: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_weights(self) -> int:
        """How many weights it has."""
        return prod(self.shape)


def relative_mse(matrix: NDArray[Any], decoded: NDArray[Any]) -> float:
    """Sum of squared differences in squares of the first; 0 if there is no difference."""
    error = np.square(matrix - decoded, dtype=np.float64).sum()
    return float(error / np.square(matrix, dtype=np.float64).sum()) if error else 0.0


def make_table(reports: Iterable[TensorReport], bits_per_weight: float) -> str:
    """Lines of a table: a tensor each, those that were kept in one; then the sum, and notes."""
    reports = list(reports)
    kept = [report for report in reports if report.quantizer == "keep"]
    lines = [cells(report) for report in reports if report.quantizer != "keep"]
    if kept:
        n = sum(report.n_weights for report in kept)
        lines.append([f"{len(kept)} as they are", "", str(n), "keep", *[""] * 5])
    n = sum(report.n_weights for report in reports)
    errors = [report.error for report in reports if report.error is not None]
    total = f"{sum(errors):.4g}" if errors else ""
    seconds = sum(report.seconds for report in reports)
    last = ["all", "", str(n), "", f"{bits_per_weight:.3f}", "", total, "", f"{seconds:.2f}"]
    notes = [f"{report.name}: {note}" for report in reports for note in report.notes]
    return "\n".join([*aligned([list(HEADER), *lines, last]), *notes])


def cells(report: TensorReport) -> list[str]:
    """A line of the table."""
    return [
        report.name,
        report.role,
        "x".join(map(str, report.shape)),
        report.quantizer,
        f"{report.bits_per_weight:.3f}",
        f"{report.relative_mse:.2e}",
        "" if report.error is None else f"{report.error:.3g}",
        "" if report.share is None else f"{report.share:.1%}",
        f"{report.seconds:.2f}",
    ]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns: text to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
