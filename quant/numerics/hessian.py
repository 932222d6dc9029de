"""Hessian of a layer's squared error, gathered row by row, and the factor that GPTQ walks along."""

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BLOCK_ROWS = 4096  # rows in one float32 product: the sum over products is kept in float64
TILE_ROWS = 128  # rows compared with their transposes at a time
MIN_DAMP = 1e-8  # what a damp of 0 is raised to first
SYMMETRY = 1e-5  # of the largest diagonal entry: what float32 sums may differ by


class DampingWarning(UserWarning):
    """The Hessian could not be factored with the damping asked, and more was used."""


class Hessian:
    """Mean of x xᵀ over calibration rows x, streamed in any pieces.

    Half the second derivative of the layer's mean squared output error, the same for each of its
    outputs. It is a mean, so more rows make it more certain and not larger.

    Parameters
    ----------
    n_columns : int
        C: inputs of the layer.

    Attributes
    ----------
    n_rows : int
        Calibration rows so far.

    Examples
    --------
    >>> hessian = Hessian(2)
    >>> hessian.add(np.array([[1.0, 2.0], [3.0, 0.0]]))
    >>> hessian.matrix()
    array([[5., 1.],
           [1., 2.]])
    """

    def __init__(self, n_columns: int) -> None:
        if type(n_columns) is not int or n_columns < 1:
            raise ValueError(
                f"n_columns must be an integer >= 1, got {n_columns!r}; give the layer's inputs"
            )
        self.n_rows = 0
        self._sum = np.zeros((n_columns, n_columns))

    @property
    def n_columns(self) -> int:
        """C: inputs of the layer."""
        return len(self._sum)

    def add(self, rows: Any) -> None:
        """Take in calibration rows (..., C), float, numpy or torch on any device.

        float64 is multiplied in float64, all else in float32.

        Raises
        ------
        ValueError
            If they have another number of columns, are not finite, or their squares overflow;
            then nothing was taken in.
        """
        rows = as_array(rows)
        if rows.ndim == 0 or rows.shape[-1] != self.n_columns:
            raise ValueError(
                f"calibration rows must have {self.n_columns} columns, got shape {rows.shape}; "
                "give what goes into the layer"
            )
        rows = rows.reshape(-1, self.n_columns)
        added = np.zeros_like(self._sum)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS]
            if block.dtype != np.float64:
                block = np.asarray(block, np.float32)
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                product = block.T @ block
            # A sum of squares is finite only if all that was squared is.
            finite = np.isfinite(np.diagonal(product))
            if not finite.all():
                raise ValueError(
                    f"calibration rows must be finite, and their squares too, got otherwise in "
                    f"column {int(np.argmin(finite))}; look at the model's activations"
                )
            added += product
        self._sum += added
        self.n_rows += len(rows)

    def matrix(self) -> Float64:
        """(C, C) float64: the mean; ValueError if no row came."""
        if not self.n_rows:
            raise ValueError(
                "a Hessian needs at least one calibration row, got 0; see that the calibration "
                "reaches the layer, or round to nearest"
            )
        return self._sum / self.n_rows


@dataclass(frozen=True, eq=False, kw_only=True)
class LdlFactor:
    """Damped Hessian H, of columns in visiting order, as ``H = Dᵀ diag(pivots)² D``.

    An error e (C,) of a row of weights costs eᵀHe, column after column the square of pivots[j]
    times (its own error, and what the errors before it add to it: drift[j, :j] @ e[:j]). To choose
    each column so that this is small is GPTQ, and Babai's nearest plane. The factor U of the
    inverse, in which GPTQ is mostly written, is not needed: ``U_jj = 1 / pivots[j]``.

    Attributes
    ----------
    order : (C,) int64
        Columns as they are visited.
    drift : (C, C) float64, unit lower triangular
        D.
    pivots : (C,) float64 >= 0
        0 for dead columns.
    dead : (C,) bool
        Columns, as they stand in the weight, that no calibration row touches.
    damp : float
        What was used: this times the mean diagonal was added to the diagonal.
    """

    order: NDArray[np.int64]
    feedback: Float64
    pivots: Float64
    dead: NDArray[np.bool_]
    damp: float


def ldl_factor(hessian: Float64, *, damp: float = 0.01, act_order: bool = True) -> LdlFactor:
    """Factor of a Hessian (C, C) that `check_hessian` passed, in float64.

    Parameters
    ----------
    damp : float in [0, 1]
        In mean diagonal entries of live columns. If the factorization fails it is raised tenfold
        until it succeeds, with a `DampingWarning`.
    act_order : bool
        Whether columns go by falling diagonal; otherwise as they stand.

    Raises
    ------
    ValueError
        If it is not positive semidefinite: a damp of 1 does not help.
    """
    diagonal = np.diagonal(hessian)
    dead = diagonal == 0
    mean = mean_of_live(diagonal)
    order = np.arange(len(dead))
    if act_order:
        order = np.argsort(-diagonal, kind="stable")
    # H = Dᵀ D, with the unit diagonal taken out, is the Cholesky factorization of H turned about.
    reversed_hessian = np.take(hessian[order[::-1]], order[::-1], axis=1)
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
            "with more rows, or ask for more",
            DampingWarning,
            stacklevel=2,
        )
    lower = upper[::-1, ::-1]
    pivots = np.diagonal(lower).copy()
    feedback = np.divide(lower, pivots[:, None], order="C")
    pivots[dead[order]] = 0  # what is wrong there costs nothing
    return LdlFactor(order=order, feedback=feedback, pivots=pivots, dead=dead, damp=used)


def mean_of_live(diagonal: Float64) -> float:
    """Mean of the entries that are not 0, of which there must be one: the unit of damping."""
    live = diagonal[diagonal != 0]
    return float((live / len(live)).sum())


def cholesky(matrix: Float64, diagonal: Float64) -> Float64 | None:
    """Upper factor R with RᵀR = matrix, this diagonal put in; None if it has none but by rounding.

    The diagonal is put into `matrix` itself.
    """
    np.fill_diagonal(matrix, diagonal)
    try:
        upper = np.asarray(np.linalg.cholesky(matrix, upper=True), np.float64)
    except np.linalg.LinAlgError:
        return None
    # A pivot that is a rounding error may come out positive, and sends all behind it astray.
    noise = len(matrix) * np.finfo(np.float64).eps * diagonal.max()
    return upper if (np.diagonal(upper) ** 2 > noise).all() else None


def check_hessian(hessian: Any, n_columns: int) -> Float64:
    """(C, C) float64, symmetric, of a `Hessian` or a matrix.

    Raises
    ------
    ValueError
        If it is of another shape, not finite, not symmetric, all zero, or has a diagonal that no
        mean of x xᵀ has.
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
            "hessian must not be all zero on its diagonal, got no live column; see that the "
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
    """Raise ValueError unless a Hessian of this shape fits the weight."""
    if shape != (n_columns, n_columns):
        raise ValueError(
            f"hessian must have shape {(n_columns, n_columns)} for a weight of {n_columns} "
            f"columns, got {shape}; see that it is this layer's, and transposed=True for a Conv1D"
        )


def symmetric(matrix: Float64) -> Float64:
    """The matrix, its halves made equal; ValueError if they differ by more than rounding."""
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


def as_array(values: Any) -> NDArray[Any]:
    """The values in numpy; a tensor's are fetched, and bfloat16, which numpy lacks, widened."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"calibration must be of numbers, got {array.dtype}; cast it first")
    return array
