"""Sums of what a weight is multiplied with, kept apart by the rows that are multiplied."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.base.matrix import Axes
from quant.numerics.hessian import Hessian, as_array
from quant.numerics.parts import all_rows
from quant.types import Array, Float64, Indices

if TYPE_CHECKING:
    from torch import Tensor

ITEMSIZE = 8  # bytes of an entry of a Hessian


@dataclass
class RowSum:
    """Hessian of the inputs x̃ of some rows (n,) of a weight's matrix.

    cross: sum of x x̃ᵀ, if `WeightStatistics.add` was given other inputs x beside them.
    """

    rows: Indices
    hessian: Hessian
    cross: Float64 | None = None


class Part(NamedTuple):
    """Rows with the same inputs: mean of x̃ x̃ᵀ, number of inputs, and mean of x x̃ᵀ if there is x."""

    rows: Indices
    matrix: Float64
    n: int
    cross: Float64 | None


@dataclass
class WeightStatistics:
    """Statistics of one weight.

    Attributes
    ----------
    axes : Axes
        Which axes of the weight are rows.
    n_rows, n_columns : int
        Size of the weight's matrix.
    sums : dict of RowSum
        By the bytes of the rows.
    squares : (n_rows,) float64
        Sums of squared gradients of the loss in the outputs.
    """

    axes: Axes
    n_rows: int
    n_columns: int
    sums: dict[bytes, RowSum] = field(default_factory=dict)
    squares: Float64 = field(init=False)

    def __post_init__(self) -> None:
        self.squares = np.zeros(self.n_rows)

    def add(
        self,
        rows: Indices,
        columns: Indices | None,
        inputs: Any,
        others: Array | None = None,
    ) -> None:
        """Add inputs (N, m) of some rows.

        columns (m,): the columns of the weight's matrix that they belong to; None for all in order.
        others (N, m): the inputs x beside these, if the mean of x x̃ᵀ is wanted.
        """
        key = rows.tobytes()
        if key not in self.sums:
            self.sums[key] = RowSum(rows, Hessian(self.n_columns))
        part = self.sums[key]
        wide = spread(inputs, columns, self.n_columns)
        part.hessian.add(wide)
        if others is not None:
            product = spread(others, columns, self.n_columns).T @ np.asarray(wide)
            if part.cross is None:
                part.cross = product.astype(np.float64)
            else:
                part.cross += product

    def of_weight(self, axes: Axes, n_rows: int) -> "WeightStatistics":
        """The same inputs as those of another weight, with so many rows, if it is whole."""
        other = WeightStatistics(axes, n_rows, self.n_columns, dict(self.sums))
        if self.is_whole:
            (part,) = self.sums.values()
            rows = np.arange(n_rows)
            other.sums = {rows.tobytes(): RowSum(rows, part.hessian, part.cross)}
        return other

    @property
    def is_whole(self) -> bool:
        """Whether there is one Hessian, of all rows."""
        sums = list(self.sums.values())
        return len(sums) == 1 and len(sums[0].rows) == self.n_rows

    def parts(self) -> list[Part]:
        """The parts of the weight, each with ascending rows; no two have a row in common."""
        sums = [part for part in self.sums.values() if part.hessian.n_rows]
        rows = all_rows(sums)
        if len(np.unique(rows)) == len(rows):
            return [mean_of([part], np.sort(part.rows)) for part in sums]
        is_in = np.zeros((len(sums), self.n_rows), bool)
        for i, part in enumerate(sums):
            is_in[i, part.rows] = True
        products, labels = np.unique(is_in, axis=1, return_inverse=True)
        return [
            mean_of(
                [part for part, is_used in zip(sums, used, strict=True) if is_used],
                np.flatnonzero(labels.ravel() == label),
            )
            for label, used in enumerate(products.T)
            if used.any()
        ]

    def take_parts(self) -> list[Part]:
        """`parts`, with less memory: the sums are gone."""
        rows = all_rows(self.sums.values())
        parts: list[Part] = []
        is_shared = len(np.unique(rows)) < len(rows)
        if is_shared:
            parts = self.parts()
        for key in list(self.sums):
            rows, hessian, cross = (part := self.sums.pop(key)).rows, part.hessian, part.cross
            if hessian.n_rows and not is_shared:
                if cross is not None:
                    cross /= hessian.n_rows
                parts.append(Part(np.sort(rows), hessian.matrix(), hessian.n_rows, cross))
        return parts


def mean_of(sums: list[RowSum], rows: Indices) -> Part:
    """The part of rows that all of these products have."""
    n = sum(part.hessian.n_rows for part in sums)
    if len(sums) == 1:
        matrix = sums[0].hessian.matrix()
    else:
        matrix = np.sum([part.hessian.n_rows / n * part.hessian.matrix() for part in sums], axis=0)
    crosses = [part.cross for part in sums if part.cross is not None]
    cross = (crosses[0] if len(crosses) == 1 else np.sum(crosses, axis=0)) / n if crosses else None
    return Part(rows, matrix, n, cross)


def spread(inputs: Any, columns: Indices | None, n_columns: int) -> Any:
    """Inputs (N, n_columns): those of `columns`, and 0 in all others."""
    if columns is None:
        return inputs
    array = as_array(inputs)
    wide = np.zeros((*array.shape[:-1], n_columns), array.dtype)
    wide[..., columns] = array
    return wide


def select(inputs: "Tensor", tokens: "Tensor | None", is_kept: "Tensor | None") -> "Tensor":
    """Inputs (N, m) without the rows of padding."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    if is_kept is None or tokens is None:
        return rows
    return rows[is_kept.to(rows.device)[tokens.to(rows.device)]]


def hessian_bytes(n_columns: int) -> int:
    """Bytes of a Hessian of so many columns."""
    return ITEMSIZE * n_columns**2
