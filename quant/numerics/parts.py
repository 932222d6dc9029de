"""Hessians of parts of a weight: rows that multiply inputs of their own.

Each expert of a stack (E, out, in) sees the tokens that are routed to it, each group of a
convolution its channels, each slice of a fused weight its own inputs. Rows that no part covers have
no Hessian.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from quant.numerics.hessian import check_hessian
from quant.types import Float64, Indices


class HessianPart(NamedTuple):
    """Rows (n,) of a weight's matrix, and the Hessian (C, C) of their inputs."""

    rows: Indices
    matrix: Float64


@dataclass(frozen=True, eq=False)
class PartHessian:
    """Hessians of parts of the rows of a weight; no two parts have a row in common."""

    parts: tuple[HessianPart, ...]


class HasRows(Protocol):
    """Anything that belongs to rows (n,) of a weight's matrix."""

    @property
    def rows(self) -> Indices:
        """The rows."""


def all_rows(parts: Iterable[HasRows]) -> Indices:
    """Return the rows of all parts, (N,) int64, in the order of the parts."""
    return np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts)])


def parts_of(hessian: Any, n_rows: int, n_columns: int) -> list[HessianPart]:
    """Return the checked parts of a PartHessian, or all rows as one part of any other Hessian.

    Parts without a live column are left out: their inputs were 0, or there were none.

    Raises
    ------
    ValueError
        As `check_hessian`; or if a row is out of range or in two parts.
    """
    if not isinstance(hessian, PartHessian):
        return [HessianPart(np.arange(n_rows), check_hessian(hessian, n_columns))]
    rows = all_rows(hessian.parts)
    counts = np.bincount(rows[(rows >= 0) & (rows < n_rows)], minlength=n_rows)
    if counts.sum() != len(rows) or counts.max(initial=0) > 1:
        raise ValueError(
            f"parts must have rows in 0..{n_rows - 1}, each once, got other ones; make them from "
            "the weight's own matrix"
        )
    return [
        HessianPart(part.rows, check_hessian(part.matrix, n_columns))
        for part in hessian.parts
        if np.any(np.diagonal(part.matrix))
    ]


def mean_matrix(parts: list[HessianPart], n_columns: int) -> Float64:
    """Return the mean (C, C) of the parts' Hessians over their rows; the identity without any."""
    n_rows = sum(len(part.rows) for part in parts)
    if not n_rows:
        return np.eye(n_columns)
    if len(parts) == 1:
        return parts[0].matrix
    total: Float64 = np.sum([len(part.rows) / n_rows * part.matrix for part in parts], axis=0)
    return total
