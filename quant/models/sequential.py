"""Sequential calibration (`true_sequential`): calibrate each weight on the partly quantized model.

`calibrate` measures the inputs x of a weight in the model as it is. Behind quantized weights, the
inputs differ: x̃. A weight that is quantized later should multiply x̃ and still give the outputs
that the original weight gives for x:

    E|W x - Ŵ x̃|² = E|(Ŵ - W') x̃|² + a constant,   W' = W E[x x̃ᵀ] E[x̃ x̃ᵀ]⁻¹

So W' is quantized in the place of W, with the Hessian of x̃. This is the asymmetric calibration of
GPTAQ (Li, Yin, Lee, Xiao and Panda 2025, https://arxiv.org/abs/2504.02692), which compensates the
difference column by column.

The model and its partly quantized copy run one block at a time (`quant.models.block_chain`), so
that the time grows with the number of blocks. Memory holds two hidden states for each calibration
token, one of each model: 2 x tokens x width numbers. If the blocks cannot run alone, each group of
weights with the same inputs takes two forward passes of the whole model, and the time grows with
the square of the depth.
"""

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.calibration.calibrate import Calibration
from quant.numerics.hessian import Hessian, as_array
from quant.types import Float64, Matrix

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quant.models.block_chain import BlockChain


DAMP = 0.01  # of the mean diagonal, where the Hessian of x̃ is inverted


class SequentialCalibration:
    """A model beside a copy of it whose weights are replaced by quantized ones, one by one.

    Weights must be committed in the order of their first use.

    Parameters
    ----------
    model : torch.nn.Module
        The model is left as it was.
    calibration : Calibration
        Calibration of this model; its batches are iterable more than once.

    Attributes
    ----------
    note : str
        Why the whole model is run instead of single blocks; empty if blocks are run.

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
        self.note = ""
        self._batches, self._n_matmuls = calibration.batches, calibration.n_matmuls
        self._model, self._copy = model, deepcopy(model)
        self._pending = dict(self._copy.named_parameters())
        self._names = [name for group in calibration.input_groups for name in group]
        self._group: tuple[str, ...] = ()
        self._inputs: tuple[Float64, Float64]
        self._list_name: str | None = None
        self._chains: tuple[BlockChain, BlockChain] | None = None

    def commit(self, name: str, weight: "Tensor") -> None:
        """Replace a weight of the copy by its dequantized or rounded values."""
        import torch

        self._pending.pop(name, None)
        with torch.no_grad():
            self._copy.get_parameter(name).copy_(weight)
        index = self._block_index(name)
        if self._chains is not None and index is not None and index < self._chains[1].index:
            self._run_whole_model("a weight of a block is first used after the next block")

    def inputs_of(self, group: tuple[str, ...]) -> tuple[Float64, Float64]:
        """(mean of x̃ x̃ᵀ, mean of x x̃ᵀ), (C, C) float64, of weights with the same inputs."""
        if group != self._group:
            self._group, self._inputs = group, self._collect(group[0])
        return self._inputs

    def _collect(self, name: str) -> tuple[Float64, Float64]:
        """`inputs_of` for one weight, summed over all batches."""
        from quant.calibration.model_call import call

        chains = self._chains_at(name)
        hessian: Hessian | None = None
        cross = np.zeros((0, 0))
        for i, (batch, n_matmuls) in enumerate(zip(self._batches, self._n_matmuls, strict=True)):
            sides = []
            for side, model in enumerate((self._model, self._copy)):
                weight, n = model.get_parameter(name), n_matmuls[name]
                rows: list[Matrix] = []
                if chains is not None:
                    chain = chains[side]
                    rows = rows_of(chain.block, weight, n, partial(chain.run, i))
                if len(rows) < n:  # also if the weight is used outside of its block
                    rows = rows_of(model, weight, n, partial(call, model, batch))
                sides.append(rows)
            for x, x_quantized in zip(*sides, strict=True):
                if hessian is None:
                    hessian = Hessian(x.shape[1])
                    cross = np.zeros((hessian.n_columns,) * 2)
                hessian.add(x_quantized)
                cross += x.T @ x_quantized
        assert hessian is not None  # calibration saw the weight in use
        return hessian.matrix(), cross / hessian.n_rows

    def _chains_at(self, name: str) -> "tuple[BlockChain, BlockChain] | None":
        """The block chains of both models at the block of a weight, or None for whole models."""
        from quant.models.block_chain import NotAChainError, find_blocks

        if self.note:
            return None
        try:
            if self._list_name is None:
                self._list_name = find_blocks(self._model, self._names)
            index = self._block_index(name)
            if index is None:
                return None
            if self._chains is None:
                self._chains = self._make_chains(self._list_name)
            if index < self._chains[0].index:
                return None
            for chain in self._chains:
                chain.advance_to(index)
        except NotAChainError as error:
            self._run_whole_model(str(error))
        return self._chains

    def _make_chains(self, list_name: str) -> "tuple[BlockChain, BlockChain]":
        """Block chains of both models; NotAChainError if blocks cannot be run alone."""
        import torch

        from quant.models.block_chain import BlockChain, check_chain

        try:
            check_chain(self._copy, list_name, next(iter(self._batches)), self._pending.values())
        finally:
            with torch.no_grad():
                for name, weight in self._pending.items():
                    weight.copy_(self._model.get_parameter(name))
        original = BlockChain(self._model, list_name, self._batches)
        return original, BlockChain(self._copy, list_name, self._batches)

    def _block_index(self, name: str) -> int | None:
        """Index of the block that owns the weight; None if it is outside of the blocks."""
        if self._list_name is None:
            return None
        prefix = f"{self._list_name}." if self._list_name else ""
        index = name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else ""
        return int(index) if index.isdigit() else None

    def _run_whole_model(self, reason: str) -> None:
        self._chains = None
        self.note = f"sequential calibration ran the whole model for each input group: {reason}"


class EnoughRowsError(Exception):
    """Raised to leave the forward pass once all rows are recorded."""


def rows_of(
    module: "nn.Module", weight: "Tensor", n_matmuls: int, run: Callable[[], Any]
) -> list[Matrix]:
    """Inputs (N, C) of a weight, for each of its first `n_matmuls` products while `run` runs."""
    import torch

    from quant.calibration.matmul_hooks import EmbeddingLookup, Matmul, MatmulRecorder
    from quant.calibration.model_call import frozen

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

    recorder = MatmulRecorder({"": weight}, on_call)
    with frozen(module), torch.no_grad(), recorder, suppress(EnoughRowsError):
        run()
    return recorded


def compensated_target(matrix: Matrix, hessian: Float64, cross: Float64) -> Matrix:
    """W' (R, C): the weight whose outputs for the inputs x̃ are closest to W x.

    Parameters
    ----------
    matrix : (R, C) float32
        W.
    hessian, cross : (C, C) float64
        Means of x̃ x̃ᵀ and of x x̃ᵀ.
    """
    damped = hessian + DAMP * np.diagonal(hessian).mean() * np.eye(len(hessian))
    if not damped.any():
        return matrix
    # W' - W = W (E[x x̃ᵀ] - E[x̃ x̃ᵀ]) E[x̃ x̃ᵀ]⁻¹, so that damping pulls W' towards W.
    delta = np.linalg.solve(damped, (cross - hessian).T @ matrix.T.astype(np.float64))
    return np.asarray(matrix + delta.T, np.float32)
