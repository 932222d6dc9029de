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

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.calibration.calibration import Calibration
from quant.calibration.statistics import Part, WeightStatistics
from quant.models.pairing import Inputs, PairedStatistics, record_inputs
from quant.numerics.parts import HessianPart, PartHessian, all_rows
from quant.types import Float64, Matrix

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quant.calibration.batches import Arguments
    from quant.calibration.model_state import ModelState
    from quant.models.block_chain import BlockChain


DAMP = 0.01  # of the mean diagonal, where the Hessian of x̃ is inverted
MAX_SINGLE = 0.25  # share of inputs without a counterpart that is not worth a note


class Target(NamedTuple):
    """What is quantized in the place of a weight.

    Attributes
    ----------
    matrix : (R, C) float32
        W'.
    hessian : (C, C) float64, or PartHessian
        Of the inputs x̃.
    notes : tuple of str
        How the inputs differ from what was asked.
    """

    matrix: Matrix
    hessian: Float64 | PartHessian
    notes: tuple[str, ...]


class Side(NamedTuple):
    """A model, and what its forward passes change."""

    model: "nn.Module"
    state: "ModelState"


class SequentialCalibration:
    """A model beside a copy of it whose weights are replaced by quantized ones, one by one.

    Weights must be committed in the order of their first use.

    Parameters
    ----------
    model : torch.nn.Module
        The model is left as it was.
    calibration : Calibration
        Calibration of this model.

    Attributes
    ----------
    note : str
        Why the whole model is run instead of single blocks; empty if blocks are run.
    """

    def __init__(self, model: "nn.Module", calibration: Calibration) -> None:
        from quant.calibration.batches import arguments_of
        from quant.calibration.model_state import ModelState, copy_of

        self.note = ""
        self._calibration = calibration
        self._batches, self._n_matmuls = calibration.batches, calibration.n_matmuls
        self._arguments: list[Arguments] = [arguments_of(model, batch) for batch in self._batches]
        copy = copy_of(model)
        self._sides = [Side(each, ModelState(each, calibration.changing)) for each in (model, copy)]
        self._pending = set(dict(copy.named_parameters()))
        self._names = [name for group in calibration.input_groups for name in group]
        self._group: tuple[str, ...] = ()
        self._inputs: PairedStatistics | None = None
        self._list_name: str | None = None
        self._chains: tuple[BlockChain, BlockChain] | None = None

    def commit(self, name: str, weight: "Tensor") -> None:
        """Replace a weight of the copy by its dequantized or rounded values."""
        self._pending.discard(name)
        self._sides[1].state.commit(name, weight)
        index = self._block_index(name)
        if self._chains is not None and index is not None and index < self._chains[1].index:
            self._run_whole_model("a weight of a block is first used after the next block")

    def target(self, name: str, group: tuple[str, ...], matrix: Matrix) -> Target:
        """What to quantize in the place of a weight (R, C) of a group with the same inputs."""
        inputs = self.inputs_of(group)
        parts = inputs.statistics.parts()
        if inputs.statistics.is_whole:  # of a group that may have weights of other sizes
            parts = [part._replace(rows=np.arange(len(matrix))) for part in parts]
        changed = matrix.copy()
        for part in parts:
            if part.cross is not None:
                changed[part.rows] = compensated_target(matrix[part.rows], part.matrix, part.cross)
        notes = []
        if inputs.n_single > MAX_SINGLE * inputs.n_rows:
            share = inputs.n_single / inputs.n_rows
            notes.append(
                f"{share:.0%} of its inputs have no counterpart in the original model; those of "
                "the quantized one were used for both"
            )
        missing = self._parts_without_inputs(name, parts, len(matrix))
        if missing:
            n = sum(len(part.rows) for part in missing)
            notes.append(f"{n} of its rows have inputs in the original model only; these were used")
        if len(parts) == 1 and len(parts[0].rows) == len(matrix):
            return Target(changed, parts[0].matrix, tuple(notes))
        hessians = [HessianPart(part.rows, part.matrix) for part in parts]
        return Target(changed, PartHessian((*hessians, *missing)), tuple(notes))

    def inputs_of(self, group: tuple[str, ...]) -> PairedStatistics:
        """Statistics of the inputs of weights with the same inputs, in both models."""
        if self._inputs is None or group != self._group:
            self._inputs = None  # freed before the next are collected
            self._group, self._inputs = group, self._collect(group)
        return self._inputs

    def reach(self, group: tuple[str, ...], *, is_whole: bool) -> None:
        """Pass a weight that is quantized already, as if its inputs were collected.

        The blocks before it run now, by the same weights as in a run that was not killed. Unless
        all weights of its group are quantized, the inputs are collected too: those that are not
        need them as they are before the first weight of the group is replaced.
        """
        if is_whole:
            self._chains_at(group[0])
        else:
            self.inputs_of(group)

    def _parts_without_inputs(self, name: str, parts: list[Part], n_rows: int) -> list[HessianPart]:
        """Parts of a weight that have inputs in the original model, and none in the copy."""
        if sum(len(part.rows) for part in parts) == n_rows:
            return []
        cost = self._calibration.cost(name)
        covered = all_rows(parts)
        if not isinstance(cost, PartHessian):
            cost = PartHessian((HessianPart(np.arange(n_rows), cost),))
        rest = [part._replace(rows=np.setdiff1d(part.rows, covered)) for part in cost.parts]
        return [part for part in rest if len(part.rows)]

    def _collect(self, group: tuple[str, ...]) -> PairedStatistics:
        """`inputs_of`, summed over all batches; calibration gets those of the model as it is."""
        name, calibration = group[0], self._calibration
        calibration.give(group, None)
        chains = self._chains_at(name)
        axes = calibration.axes(name)
        size = axes.matrix_shape(tuple(self._sides[0].model.get_parameter(name).shape))
        paired = PairedStatistics(WeightStatistics(axes, *size))
        original = None if calibration.has_hessian(name) else WeightStatistics(axes, *size)
        for i, n_matmuls in enumerate(self._n_matmuls):
            both = self._inputs_of_batch(name, i, n_matmuls[name], chains)
            paired.add(*both)
            if original is not None:
                for rows, columns, values, _ in both[0]:
                    original.add(rows, columns, values)
        calibration.give(group, original)
        return paired

    def _inputs_of_batch(
        self, name: str, i: int, n: int, chains: "tuple[BlockChain, BlockChain] | None"
    ) -> tuple[list[Inputs], list[Inputs]]:
        """Inputs of a weight in both models, for one batch in which it was multiplied n times."""
        from quant.calibration.model_call import call

        arguments = self._arguments[i]
        runs: list[list[Any]] = [
            [partial(call, side.model, self._batches[i]) for side in self._sides]
        ]
        if chains is not None:  # first by blocks; whole, if the weight is used outside of its block
            runs.insert(0, [partial(chain.run, i) for chain in chains])
        found: list[tuple[list[Inputs], int]] = []
        for both in runs:
            found = []
            for side, run in zip(self._sides, both, strict=True):
                weight = side.model.get_parameter(name)
                with side.state.running(i):
                    found.append(record_inputs(name, weight, n, arguments, run))
            if found[0][1] == n:
                break
        return found[0][0], found[1][0]

    def _chains_at(self, name: str) -> "tuple[BlockChain, BlockChain] | None":
        """The block chains of both models at the block of a weight, or None for whole models."""
        from quant.models.block_chain import NotAChainError, find_blocks

        if self.note:
            return None
        try:
            if self._list_name is None:
                self._list_name = find_blocks(self._sides[0].model, self._names)
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
        from quant.models.block_chain import BlockChain, check_chain

        original, copy = self._sides
        try:
            check_chain(*copy, list_name, self._batches[0], self._pending)
        finally:
            for name in self._pending:
                copy.state.commit(name, original.model.get_parameter(name).detach())
        first, second = (BlockChain(*side, list_name, self._batches) for side in self._sides)
        return first, second

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
