"""Sequential calibration (`true_sequential`): calibrate each weight on the partly quantized model.

`calibrate` measures the inputs x of a weight in the model as it is. Behind quantized weights, the
inputs differ: x̃. A weight that is quantized later should multiply x̃ and still give the outputs
that the original weight gives for x:

    E|W x - Ŵ x̃|² = E|(Ŵ - W') x̃|² + a constant,   W' = W E[x x̃ᵀ] E[x̃ x̃ᵀ]⁻¹

So W' is quantized in the place of W, with the Hessian of x̃. This is the asymmetric calibration of
GPTAQ (Li, Yin, Lee, Xiao and Panda 2025, https://arxiv.org/abs/2504.02692), which compensates the
difference column by column.
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


class SequentialCalibration:
    """A model beside a copy of it whose weights are replaced by quantized ones, one by one.

    Parameters
    ----------
    model : torch.nn.Module
        The model is left as it was.
    calibration : Calibration
        Calibration of this model; its batches are iterable more than once.

    Raises
    ------
    ValueError
        If the batches of the calibration were an iterator.
    """

    def __init__(self, model: "nn.Module", calibration: Calibration) -> None:
        if calibration.batches is None:
            raise ValueError(
                "batches must be iterable more than once for a sequential recipe, got an iterator; "
                "calibrate with a list, or use a recipe with sequential=False"
            )
        self._batches, self._n_matmuls = calibration.batches, calibration.n_matmuls
        self._model, self._copy = model, deepcopy(model)
        self._group: tuple[str, ...] = ()
        self._inputs: tuple[Hessian, Float64]

    def commit(self, name: str, tensor: Any) -> None:
        """Replace a weight of the copy by its quantized or rounded tensor."""
        import torch

        weight = self._copy.get_parameter(name)
        with torch.no_grad():
            weight.copy_(dequantized(tensor))

    def inputs_of(self, group: tuple[str, ...]) -> tuple[Hessian, Float64]:
        """(Hessian of x̃, mean of x x̃ᵀ (C, C) float64) of weights with the same inputs."""
        if group != self._group:
            self._group, self._inputs = group, self._collect(group[0])
        return self._inputs

    def _collect(self, name: str) -> tuple[Hessian, Float64]:
        """The same for one weight, over all batches."""
        hessian: Hessian | None = None
        cross = np.zeros((0, 0))
        for batch, n_matmuls in zip(self._batches, self._n_matmuls, strict=True):
            before = rows_of(self._model, name, batch, n_matmuls[name])
            after = rows_of(self._copy, name, batch, n_matmuls[name])
            if hessian is None:
                hessian = Hessian(after[0].shape[1])
                cross = np.zeros((hessian.n_columns,) * 2)
            for x, x_quantized in zip(before, after, strict=True):
                hessian.add(x_quantized)
                cross += x.T @ x_quantized
        assert hessian is not None  # calibration saw a batch
        return hessian, cross / hessian.n_rows


class EnoughRowsError(Exception):
    """Raised to leave the forward pass once all rows are recorded."""


def rows_of(model: "nn.Module", name: str, batch: Any, n_matmuls: int) -> list[Matrix]:
    """Inputs (N, C) of a weight, for each of its first `n_matmuls` products of a batch."""
    import torch

    from quant.calibration.matmul_hooks import EmbeddingLookup, Matmul, MatmulRecorder
    from quant.calibration.model_call import call, frozen

    recorded: list[Matrix] = []
    if n_matmuls == 0:
        return recorded

    def on_call(matmul: Matmul | EmbeddingLookup, output: "Tensor") -> "Tensor":
        if isinstance(matmul, Matmul):
            rows = as_array(matmul.rows)
            recorded.append(rows.reshape(-1, rows.shape[-1]).astype(np.float32, copy=False))
            if len(recorded) == n_matmuls:
                raise EnoughRowsError
        return output

    weights = {name: model.get_parameter(name)}
    recorder = MatmulRecorder(weights, on_call)
    with frozen(model), torch.no_grad(), recorder, suppress(EnoughRowsError):
        call(model, batch)
    return recorded


def compensated_target(matrix: Matrix, hessian: Hessian, cross: Float64) -> Matrix:
    """W' (R, C): the weight that gives, for the inputs x̃, closest to the outputs W x."""
    moved = hessian.matrix()
    damped = moved + DAMP * np.diagonal(moved).mean() * np.eye(len(moved))
    if not damped.any():
        return matrix
    # W' - W = W (E[x x̃ᵀ] - E[x̃ x̃ᵀ]) E[x̃ x̃ᵀ]⁻¹, so that damping pulls W' towards W.
    delta = np.linalg.solve(damped, (cross - moved).T @ matrix.T.astype(np.float64))
    return np.asarray(matrix + delta.T, np.float32)
