"""Weights in turn: each quantized for the inputs it meets once those before it are quantized.

What the errors of a weight cost was measured on the inputs of the model as it is; behind weights
that are quantized, other inputs come. So the second to be quantized is chosen for these, x̃, and to
give what the weight as it is gave for the inputs x that came before:

    E|W x - Ŵ x̃|² = E|(Ŵ - W') x̃|² + what no Ŵ changes,   W' = W E[x x̃ᵀ] E[x̃ x̃ᵀ]⁻¹

(Li, Yin, Lee, Xiao and Panda 2025, "GPTAQ", https://arxiv.org/abs/2504.02692: there the difference
is made up for column by column.) W' is quantized in place of W, with the Hessian of x̃.
"""

from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quant.calibration.calibrate import Calibration
from quant.models.quantized_model import dequantized
from quant.numerics.hessian import Hessian, as_array

if TYPE_CHECKING:
    from torch import Tensor, nn

Float64 = NDArray[np.float64]
Matrix = NDArray[np.float32]

DAMP = 0.01  # of the mean diagonal, where the Hessian of x̃ is inverted


class Twin:
    """A copy of a model that takes on quantized weights one after the other.

    Parameters
    ----------
    model : module of torch
        It stays as it is.
    calibration : Calibration
        Of this model, its batches a list or otherwise iterable again.

    Raises
    ------
    ValueError
        If there is no second pass over the batches.
    """

    def __init__(self, model: "nn.Module", calibration: Calibration) -> None:
        if calibration.batches is None:
            raise ValueError(
                "batches must be iterable again where weights are quantized in turn, got an "
                "iterator; calibrate with a list of them, or use a recipe with sequential=False"
            )
        self._batches, self._n_products = calibration.batches, calibration.n_products
        self._model, self._copy = model, deepcopy(model)
        self._flow: tuple[str, ...] = ()
        self._met: tuple[Hessian, Float64]

    def take(self, name: str, tensor: Any) -> None:
        """Go on with what became of a weight, quantized or not."""
        import torch

        weight = self._copy.get_parameter(name)
        with torch.no_grad():
            weight.copy_(dequantized(tensor))

    def meet(self, flow: tuple[str, ...]) -> tuple[Hessian, Float64]:
        """(Hessian of x̃, mean of x x̃ᵀ (C, C) float64) for weights that take in the same rows."""
        if flow != self._flow:
            self._flow, self._met = flow, self._gather(flow[0])
        return self._met

    def _gather(self, name: str) -> tuple[Hessian, Float64]:
        """The same, over all batches."""
        hessian: Hessian | None = None
        cross = np.zeros((0, 0))
        for batch, n_products in zip(self._batches, self._n_products, strict=True):
            before = rows_of(self._model, name, batch, n_products[name])
            after = rows_of(self._copy, name, batch, n_products[name])
            if hessian is None:
                hessian = Hessian(after[0].shape[1])
                cross = np.zeros((hessian.n_columns,) * 2)
            for x, moved in zip(before, after, strict=True):
                hessian.add(moved)
                cross += x.T @ moved
        assert hessian is not None  # calibration saw a batch
        return hessian, cross / hessian.n_rows


class Enough(Exception):  # noqa: N818, it is none
    """The rows that were wanted are there; the rest of the model need not run."""


def rows_of(model: "nn.Module", name: str, batch: Any, n_products: int) -> list[Matrix]:
    """Rows (N, C) that a weight is multiplied with, for each of its first products of a batch."""
    import torch

    from quant.calibration.collector import at_rest
    from quant.calibration.matmul_hooks import Lookup, Product, Watch
    from quant.calibration.model_call import call

    found: list[Matrix] = []
    if n_products == 0:
        return found

    def report(seen: Product | Lookup, output: "Tensor") -> "Tensor":
        if isinstance(seen, Product):
            rows = as_array(seen.rows)
            found.append(rows.reshape(-1, rows.shape[-1]).astype(np.float32, copy=False))
            if len(found) == n_products:
                raise Enough
        return output

    weights = {name: model.get_parameter(name)}
    with at_rest(model), torch.no_grad(), Watch(weights, report), suppress(Enough):
        call(model, batch)
    return found


def aimed_at(matrix: Matrix, hessian: Hessian, cross: Float64) -> Matrix:
    """(R, C): W', what a weight (R, C) should be for other inputs to give what it gave."""
    moved = hessian.matrix()
    damped = moved + DAMP * np.diagonal(moved).mean() * np.eye(len(moved))
    if not damped.any():
        return matrix
    # W' - W = W (E[x x̃ᵀ] - E[x̃ x̃ᵀ]) E[x̃ x̃ᵀ]⁻¹, so that damping draws it to W.
    drift = np.linalg.solve(damped, (cross - moved).T @ matrix.T.astype(np.float64))
    return np.asarray(matrix + drift.T, np.float32)
