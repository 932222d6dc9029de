"""Figures of what quantization did to each tensor."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from tabulate import tabulate

from quant.types import Array

HEADER = (
    "tensor", "role", "shape", "quantizer", "bits", "rel. MSE", "clipped", "error", "share", "s",
)  # fmt: skip
ALIGNMENTS = ("left",) * 4 + ("right",) * 6


@dataclass(frozen=True, kw_only=True)
class TensorReport:
    """How one tensor was quantized, and what it lost.

    Attributes
    ----------
    name, role : str
        The role as in `quant.models.parameters`, or "buffer".
    shape : tuple of int
    quantizer : str
        "keep", "float16", or the kind of the configuration and its fields that are not defaults.
    bits_per_weight : float
        Bits of packed codes and side arrays per weight, before compression.
    relative_mse : float
        Sum of squared errors, divided by the sum of squared weights.
    clipped : float
        Share of the weights beyond the outermost levels by more than half a scale; 0 for
        codebooks.
    error : float or None
        Cost of the errors by `Calibration.error`: ``sum(g * diag(E H Eᵀ))``. With Fisher
        information, half of it approximates the increase of the loss in nats a token. None for
        a tensor that is kept, or that calibration did not reach.
    share : float or None
        Share of `error` in the errors of all tensors.
    seconds : float
        Time that quantization took.
    damp : float or None
        Damping that GPTQ used.
    is_uncalibrated : bool
        Whether it was rounded to nearest because it had no Hessian.
    notes : tuple of str
        Warnings, and deviations from what was asked.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    quantizer: str
    bits_per_weight: float
    relative_mse: float = 0.0
    clipped: float = 0.0
    error: float | None = None
    share: float | None = None
    seconds: float = 0.0
    damp: float | None = None
    is_uncalibrated: bool = False
    notes: tuple[str, ...] = ()

    @property
    def n_weights(self) -> int:
        """Number of entries of the tensor."""
        return prod(self.shape)


def relative_mse(matrix: Array, decoded: Array) -> float:
    """Sum of squared differences, divided by the sum of squares of `matrix`."""
    error = np.square(matrix - decoded, dtype=np.float64).sum()
    return float(error / np.square(matrix, dtype=np.float64).sum()) if error else 0.0


def make_table(reports: Iterable[TensorReport], bits_per_weight: float) -> str:
    """Table: a line for each tensor, one for all kept tensors, one for the totals; then notes."""
    reports = list(reports)
    kept = [report for report in reports if report.quantizer == "keep"]
    rows = [cells(report) for report in reports if report.quantizer != "keep"]
    if kept:
        n = sum(report.n_weights for report in kept)
        rows.append([f"{len(kept)} kept", "", str(n), "keep", *[""] * 6])
    n = sum(report.n_weights for report in reports)
    errors = [report.error for report in reports if report.error is not None]
    total = f"{sum(errors):.4g}" if errors else ""
    seconds = sum(report.seconds for report in reports)
    rows.append(
        ["all", "", str(n), "", f"{bits_per_weight:.3f}", "", "", total, "", f"{seconds:.2f}"]
    )
    notes = [f"{report.name}: {note}" for report in reports for note in report.notes]
    if n_rounded := sum(report.is_uncalibrated for report in reports):
        notes.append(
            f"not calibrated, and rounded to nearest: {n_rounded} of {len(reports)} tensors"
        )
    table = tabulate([HEADER, *rows], tablefmt="plain", colalign=ALIGNMENTS, disable_numparse=True)
    return "\n".join([*map(str.rstrip, table.splitlines()), *notes])


def cells(report: TensorReport) -> list[str]:
    """Cells of one line of the table."""
    return [
        report.name,
        report.role,
        "x".join(map(str, report.shape)),
        report.quantizer,
        f"{report.bits_per_weight:.3f}",
        f"{report.relative_mse:.2e}",
        f"{report.clipped:.2%}" if report.clipped else "",
        "" if report.error is None else f"{report.error:.3g}",
        "" if report.share is None else f"{report.share:.1%}",
        f"{report.seconds:.2f}",
    ]
