"""Hessian of a layer's squared output error, and its LDL factorization for GPTQ."""

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.exclusive import Guard, exclusive
from quant.base.config import check_int
from quant.types import Array, Float64, Indices

BLOCK_ROWS = 4096  # calibration rows in one float32 product; products are added in float64
TILE_ROWS = 128  # rows of a matrix compared with its transpose at a time
MIN_DAMP = 1e-8  # first value to try where a damp of 0 fails
SYMMETRY = 1e-5  # asymmetry allowed for float32 sums, in units of the largest diagonal entry


class DampingWarning(UserWarning):
    """The Hessian could not be factored with the requested damping; more was used."""


@exclusive("_guard", free=("n_columns",))
class Hessian:
    """Mean of x xᵀ over calibration rows x, accumulated over any number of batches.

    It is half the second derivative of the layer's mean squared output error, the same for each
    output. Because it is a mean, its scale does not depend on the number of rows. One thread at a
    time: a call in a second one is a ValueError, and changes nothing.

    Parameters
    ----------
    n_columns : int
        Number of inputs of the layer, C.

    Attributes
    ----------
    n_rows : int
        Number of calibration rows added.

    Examples
    --------
    >>> hessian = Hessian(2)
    >>> hessian.add(np.array([[1.0, 2.0], [3.0, 0.0]]))
    >>> hessian.matrix()
    array([[5., 1.],
           [1., 2.]])
    """

    def __init__(self, n_columns: int) -> None:
        n = check_int(n_columns, "n_columns", 1, sys.maxsize)
        self.n_rows = 0
        self._guard = Guard()
        self._sum = np.zeros((n, n))

    @property
    def n_columns(self) -> int:
        """Number of inputs of the layer, C."""
        return len(self._sum)

    def add(self, rows: Any) -> None:
        """Add calibration rows (..., C), numpy or torch on any device.

        float64 rows are multiplied in float64, all others in float32.

        Raises
        ------
        ValueError
            If the number of columns differs, or the rows or their squares are not finite; then no
            row is added.
        """
        rows = as_array(rows)
        if rows.ndim == 0 or rows.shape[-1] != self.n_columns:
            raise ValueError(
                f"calibration rows must have {self.n_columns} columns, got shape {rows.shape}; "
                "give what goes into the layer"
            )
        rows = rows.reshape(-1, self.n_columns)
        added: Array = np.zeros(1)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            if block.dtype != np.float64:
                block = np.asarray(block, np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused below
                product = block.T @ block
            check_squares(np.diagonal(product))
            # One product stays float32: a sum of them needs float64, and twice the memory.
            added = product if len(rows) <= BLOCK_ROWS else added + product
        with self._guard.changing():
            self._sum += added
            self.n_rows += len(rows)

    def matrix(self) -> Float64:
        """Return the mean (C, C) float64; ValueError if there are no rows."""
        if not self.n_rows:
            raise ValueError(
                "a Hessian needs at least one calibration row, got 0; check that the calibration "
                "reaches the layer, or round to nearest"
            )
        return self._sum / self.n_rows


def check_rows(rows: Any) -> None:
    """Raise ValueError unless a `Hessian` could add these calibration rows (N, C)."""
    array = as_array(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        array = array if array.dtype == np.float64 else np.asarray(array, np.float32)
        check_squares(np.einsum("nc,nc->c", array, array))


def check_squares(squares: Array) -> None:
    """Raise ValueError unless the sum of squares of each column (C,) is finite."""
    finite = np.isfinite(squares)  # a sum of squares is finite only if all of its terms are
    if not finite.all():
        raise ValueError(
            f"calibration rows must be finite, and their squares too, got otherwise in column "
            f"{int(np.argmin(finite))}; look at the model's activations"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LdlFactor:
    """Factorization of the damped Hessian, columns in visiting order: ``H = Dᵀ diag(p²) D``.

    D is unit lower triangular, so the loss of the errors e (C,) of a row of weights is
    ``eᵀ H e = Σⱼ (pⱼ (D e)ⱼ)²``. Choosing eⱼ to shrink each term in turn is GPTQ (Babai's nearest
    plane). The inverse Hessian is not needed: its factor U, in terms of which GPTQ is usually
    written, has ``U_jj = 1 / pⱼ``.

    Attributes
    ----------
    order : (C,) int64
        Columns in visiting order.
    feedback : (C, C) float64, unit lower triangular
        D: how the errors of earlier columns are added to each column (QuIP: linear feedback).
    pivots : (C,) float64 >= 0
        p, in visiting order; 0 for dead columns.
    dead : (C,) bool
        Columns of the weight, in its own order, that are 0 in all calibration rows.
    damp : float
        Damping used: this times the mean live diagonal entry was added to the diagonal.
    """

    order: Indices
    feedback: Float64
    pivots: Float64
    dead: NDArray[np.bool_]
    damp: float


def visiting_order(hessian: Float64) -> Indices:
    """Return the columns by decreasing diagonal of a Hessian (C, C)."""
    return np.argsort(-np.diagonal(hessian), kind="stable")


def ldl_factor(
    hessian: Float64, *, damp: float = 0.01, act_order: bool = True, order: Indices | None = None
) -> LdlFactor:
    """Factor a Hessian (C, C) that `check_hessian` returned, in float64.

    Parameters
    ----------
    damp : float in [0, 1]
        Added to the diagonal, in units of the mean diagonal entry of live columns. If the
        factorization fails, it is raised tenfold until it succeeds, with a `DampingWarning`.
    act_order : bool
        Whether columns are visited by decreasing diagonal; else in their own order.
    order : (C,) int64, optional
        Columns in the order in which they are visited, instead.

    Raises
    ------
    ValueError
        If the factorization fails with a damp of 1: the Hessian is not positive semidefinite.
    """
    diagonal = np.diagonal(hessian)
    dead = diagonal == 0
    mean = mean_of_live(diagonal)
    if order is None:
        order = visiting_order(hessian) if act_order else np.arange(len(dead))
    # H = Lᵀ L with L lower triangular: the Cholesky factorization of H with its columns reversed.
    reversed_hessian = in_order(hessian, order[::-1])
    undamped = np.where(dead, mean, diagonal)[order[::-1]]
    used = damp
    while (upper := cholesky(reversed_hessian, undamped + used * mean)) is None:
        if used >= 1:
            raise ValueError(
                "hessian must be positive semidefinite, got one that cannot be factored even with "
                "damp 1; take the mean of x xᵀ over calibration rows"
            )
        used = min(max(10 * used, MIN_DAMP), 1.0)
    if used != damp:
        warnings.warn(
            f"the Hessian could not be factored with damp {damp:g}; {used:g} was used: calibrate "
            "with more rows, or set a larger damp",
            DampingWarning,
            stacklevel=2,
        )
    del reversed_hessian  # its memory is needed below
    lower = upper[::-1, ::-1]
    pivots = np.diagonal(lower).copy()
    feedback = np.divide(lower, pivots[:, None], order="C")
    pivots[dead[order]] = 0  # errors there cost nothing
    return LdlFactor(order=order, feedback=feedback, pivots=pivots, dead=dead, damp=used)


def in_order(hessian: Float64, order: Indices) -> Float64:
    """Return a copy of a matrix (C, C) whose rows and columns are in this order."""
    ordered = np.empty_like(hessian)
    for start in range(0, len(order), TILE_ROWS):
        tile = slice(start, start + TILE_ROWS)
        ordered[tile] = hessian[order[tile]][:, order]
    return ordered


def mean_of_live(diagonal: Float64) -> float:
    """Return the mean of the diagonal entries that are not 0, the unit of damping."""
    live = diagonal[diagonal != 0]
    return float((live / len(live)).sum())


def cholesky(matrix: Float64, diagonal: Float64) -> Float64 | None:
    """Return upper triangular R with RᵀR = matrix, or None if it is not positive definite.

    The diagonal is written into `matrix` first.
    """
    np.fill_diagonal(matrix, diagonal)
    try:
        upper = np.asarray(np.linalg.cholesky(matrix, upper=True), np.float64)
    except np.linalg.LinAlgError:
        return None
    # A pivot that should be 0 may come out positive by rounding; the factor is then useless.
    noise = len(matrix) * np.finfo(np.float64).eps * diagonal.max()
    return upper if (np.diagonal(upper) ** 2 > noise).all() else None


def check_hessian(hessian: Any, n_columns: int) -> Float64:
    """Return a `Hessian` or a matrix as (C, C) float64, symmetric.

    Raises
    ------
    ValueError
        If its shape differs, it is not finite or not symmetric, or its diagonal is negative or all
        0, or an entry beside a 0 of the diagonal is not 0: no mean of x xᵀ is such a matrix.
    """
    if isinstance(hessian, Hessian):
        check_shape((hessian.n_columns,) * 2, n_columns)
        matrix = hessian.matrix()
    else:
        matrix = np.asarray(as_array(hessian), np.float64)
        check_shape(matrix.shape, n_columns)
        matrix = symmetric(matrix)
    diagonal = np.diagonal(matrix)
    if (diagonal < 0).any():
        column = int(np.argmin(diagonal))
        raise ValueError(
            f"hessian must have a diagonal >= 0, got {diagonal[column]:g} in column {column}; "
            "take the mean of x xᵀ over calibration rows"
        )
    if not diagonal.any():
        raise ValueError(
            "hessian must not be all zero on its diagonal, got no live column; check that the "
            "calibration reaches the layer, or round to nearest"
        )
    dead = diagonal == 0
    if matrix[dead].any():
        column = int(np.flatnonzero(dead)[matrix[dead].any(axis=1).argmax()])
        raise ValueError(
            f"hessian must be zero beside a zero of its diagonal, got otherwise in column {column}"
            "; take the mean of x xᵀ over calibration rows"
        )
    return matrix


def check_shape(shape: tuple[int, ...], n_columns: int) -> None:
    """Raise ValueError unless a Hessian of this shape fits a weight of C columns."""
    if shape != (n_columns, n_columns):
        raise ValueError(
            f"hessian must have shape {(n_columns, n_columns)} for a weight of {n_columns} "
            f"columns, got {shape}; use that of this layer, and transposed=True for a Conv1D"
        )


def symmetric(matrix: Float64) -> Float64:
    """Return the mean of a matrix and its transpose; ValueError unless they are nearly equal."""
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"hessian must be finite, got {matrix[row, column]} in row {row}, column {column}; "
            "look at the model's activations"
        )
    tiles = [slice(start, start + TILE_ROWS) for start in range(0, len(matrix), TILE_ROWS)]
    largest = max(float(np.abs(matrix[tile] - matrix.T[tile]).max()) for tile in tiles)
    if largest > SYMMETRY * np.abs(np.diagonal(matrix)).max():
        raise ValueError(
            f"hessian must be symmetric, got halves that differ by {largest:g}; take the mean of "
            "x xᵀ over calibration rows"
        )
    return matrix if largest == 0 else (matrix + matrix.T) / 2


def as_array(values: Any) -> Array:
    """Convert to a numpy array of numbers; bfloat16, which numpy lacks, becomes float32."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"calibration must be of numbers, got {array.dtype}; cast it first")
    return array
