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
token, one of each model: 2 x tokens x width numbers; and the dequantized weights of one block. If
the blocks cannot run alone, each group of weights with the same inputs takes two forward passes of
the whole model, the time grows with the square of the depth, and memory holds all dequantized
weights.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.base.config import QuantizedTensor
from quant.calibration.calibration import Calibration
from quant.calibration.statistics import Part, WeightStatistics
from quant.models.loading import dequantized
from quant.models.pairing import GroupInputs, Inputs, PairedStatistics, record_inputs
from quant.numerics.parts import HessianPart, PartHessian, all_rows
from quant.types import Float64, Matrix

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quant.calibration.batches import Arguments
    from quant.calibration.model_state import ModelState
    from quant.models.block_chain import BlockChain


DAMP = 0.01  # of the mean diagonal, where the Hessian of x̃ is inverted
TOLERANCE = 1e-3  # of the largest input: what inputs of blocks alone may differ by
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

    Weights must be committed or kept in the order of their first use. The copy shares the memory of
    those that are not committed yet, and of those whose block need not run again.

    Parameters
    ----------
    model : torch.nn.Module
        The model is left as it was.
    calibration : Calibration
        Calibration of this model.
    names : iterable of str
        Weights that `target` will be asked for.

    Attributes
    ----------
    note : str
        Why the whole model is run instead of single blocks; empty if blocks are run.
    """

    def __init__(self, model: "nn.Module", calibration: Calibration, names: Iterable[str]) -> None:
        from quant.calibration.batches import arguments_of
        from quant.calibration.model_state import ModelState
        from quant.calibration.replica import Replica

        self.note = ""
        self._calibration = calibration
        self._batches, self._n_matmuls = calibration.batches, calibration.n_matmuls
        self._arguments: list[Arguments] = [arguments_of(model, batch) for batch in self._batches]
        changing = calibration.changing
        self._replica = Replica(model, changing)
        self._sides = [
            Side(model, ModelState(model, changing)),
            Side(self._replica.model, self._replica.state),
        ]
        self._pending = dict.fromkeys(name for name, _ in model.named_parameters())
        self._committed: dict[str, QuantizedTensor | Tensor] = {}
        self._released: set[str] = set()  # committed, but shared with the model again
        self._names = [name for group in calibration.input_groups for name in group]
        self._waiting = set(names)
        self._group: tuple[str, ...] = ()
        self._inputs: GroupInputs | None = None
        self._list_name: str | None = None
        self._behind: set[str] = set()  # weights that are used behind the last block only
        self._chains: tuple[BlockChain, BlockChain] | None = None

    def keep(self, name: str) -> None:
        """Leave a weight of the copy as it is."""
        self._pending.pop(name, None)

    def commit(self, name: str, tensor: "QuantizedTensor | Tensor", values: "Tensor") -> None:
        """Replace a weight of the copy by the values of its quantized or rounded tensor."""
        self._pending.pop(name, None)
        self._committed[name] = tensor
        self._replica.replace(name, values)
        index = self._block_index(name)
        if self._chains is not None and index is not None and index < self._chains[1].index:
            self._run_whole_model("a weight of a block is first used after the next block")

    def target(self, name: str, group: tuple[str, ...], matrix: Matrix) -> Target:
        """What to quantize in the place of a weight (R, C) of a group with the same inputs."""
        parts, is_whole, share_single = self.inputs_of(group)
        self._finish(name)
        if is_whole:  # of a group that may have weights of other sizes
            parts = [part._replace(rows=np.arange(len(matrix))) for part in parts]
        crosses = [part.cross for part in parts]
        parts = [part._replace(cross=None) for part in parts]
        changed = matrix.copy()
        for part in parts:
            rows = matrix[part.rows]
            moved = moved_outputs(rows, part.matrix, crosses.pop(0), is_last=self._inputs is None)
            changed[part.rows] = compensated_target(rows, part.matrix, moved)
        notes = []
        if share_single > MAX_SINGLE:
            notes.append(
                f"{share_single:.0%} of its inputs have no counterpart in the original "
                "model; those of the quantized one were used for both"
            )
        missing = self._parts_without_inputs(name, parts, len(matrix))
        if missing:
            n = sum(len(part.rows) for part in missing)
            notes.append(f"{n} of its rows have inputs in the original model only; these were used")
        if len(parts) == 1 and len(parts[0].rows) == len(matrix):
            return Target(changed, parts[0].matrix, tuple(notes))
        hessians = [HessianPart(part.rows, part.matrix) for part in parts]
        return Target(changed, PartHessian((*hessians, *missing)), tuple(notes))

    def inputs_of(self, group: tuple[str, ...]) -> GroupInputs:
        """Means of the inputs of weights with the same inputs, in both models."""
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

    def _finish(self, name: str) -> None:
        """Free the inputs of a group once the last of its weights has taken them."""
        self._waiting.discard(name)
        if not self._waiting & {*self._group}:
            self._inputs = None

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

    def _collect(self, group: tuple[str, ...]) -> GroupInputs:
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
        return paired.finish()

    def _inputs_of_batch(
        self, name: str, i: int, n: int, chains: "tuple[BlockChain, BlockChain] | None"
    ) -> tuple[list[Inputs], list[Inputs]]:
        """Inputs of a weight in both models, for one batch in which it was multiplied n times."""
        if chains is not None:
            (x, n_seen), (other, _) = (
                self._record(side, name, i, n, partial(chain.run, i))
                for side, chain in zip(self._sides, chains, strict=True)
            )
            if n_seen == n:  # else the weight is used outside of its block, too
                return x, other
        self._share_no_more()
        (x, _), (other, _) = (self._record(side, name, i, n) for side in self._sides)
        return x, other

    def _record(
        self, side: Side, name: str, i: int, n: int, run: "Callable[[], Any] | None" = None
    ) -> tuple[list[Inputs], int]:
        """(inputs of a weight, in how many products), in the whole model unless `run` is given."""
        from quant.calibration.model_call import call

        weight = side.model.get_parameter(name)
        run = run or partial(call, side.model, self._batches[i])
        with side.state.running(i):
            return record_inputs(name, weight, n, self._arguments[i], run)

    def _chains_at(self, name: str) -> "tuple[BlockChain, BlockChain] | None":
        """The block chains of both models at the block of a weight, or None for whole models."""
        from quant.models.block_chain import NotAChainError, find_blocks

        if self.note:
            return None
        try:
            if self._list_name is None:
                self._list_name = find_blocks(self._sides[0].model, self._names)
                in_blocks = [self._block_index(name) is not None for name in self._names]
                n_before = len(in_blocks) - in_blocks[::-1].index(True)
                self._behind = {*self._names[n_before:]}
            index = self._block_index(name)
            if index is None or (self._chains is None and name in self._behind):
                return None
            if self._chains is None:
                self._chains = self._make_chains(self._list_name)
            if index < self._chains[0].index:
                return None
            for chain in self._chains:
                chain.advance_to(index)
            self._share_before(index)
            if name in self._behind and not self._is_same_behind(name):
                return None
        except NotAChainError as error:
            self._run_whole_model(str(error))
        return self._chains

    def _make_chains(self, list_name: str) -> "tuple[BlockChain, BlockChain]":
        """Block chains of both models; NotAChainError if blocks cannot be run alone."""
        from quant.models.block_chain import BlockChain, check_chain

        check_chain(self._replica, list_name, self._batches[0], self._pending)
        first, second = (BlockChain(*side, list_name, self._batches) for side in self._sides)
        return first, second

    def _block_index(self, name: str) -> int | None:
        """Index of the block that owns the weight; their number if it is behind them; or None."""
        if self._list_name is None:
            return None
        if name in self._behind:
            return len([*self._sides[0].model.get_submodule(self._list_name).children()])
        prefix = f"{self._list_name}." if self._list_name else ""
        index = name.removeprefix(prefix).partition(".")[0] if name.startswith(prefix) else ""
        return int(index) if index.isdigit() else None

    def _share_before(self, index: int) -> None:
        """Free the memory of the weights of blocks before `index`, which need not run again."""
        for name in self._committed.keys() - self._released:
            block = self._block_index(name)
            if block is not None and block < index:
                self._replica.share([name])
                self._released.add(name)

    def _share_no_more(self) -> None:
        """Give the copy its own weights again, to run as a whole."""
        for name in self._released:
            self._replica.replace(name, dequantized(self._committed[name]))
        self._released.clear()

    def _is_same_behind(self, name: str) -> bool:
        """Whether a weight behind the blocks has the inputs that it has in the whole model."""
        assert self._chains is not None
        i = next(i for i, n_matmuls in enumerate(self._n_matmuls) if n_matmuls[name])
        n, run = self._n_matmuls[i][name], partial(self._chains[0].run, i)
        (found, n_found), (expected, _) = (
            self._record(self._sides[0], name, i, n, each) for each in (run, None)
        )
        pairs = list(zip(found, expected, strict=False))
        return len(found) == len(expected) and n_found == n and all(map(are_close, pairs))

    def _run_whole_model(self, reason: str) -> None:
        self._chains = None
        self.note = f"sequential calibration ran the whole model for each input group: {reason}"


def are_close(pair: tuple[Inputs, Inputs]) -> bool:
    """Whether inputs are the same but for rounding."""
    one, other = (inputs.values for inputs in pair)
    return one.shape == other.shape and np.allclose(
        one, other, rtol=0, atol=TOLERANCE * np.abs(other).max(initial=0)
    )


def moved_outputs(
    matrix: Matrix, hessian: Float64, cross: Float64 | None, *, is_last: bool = False
) -> Float64:
    """(C, R): mean of x̃ (W x - W x̃)ᵀ, what the outputs of a weight W (R, C) moved by.

    hessian, cross: (C, C), means of x̃ x̃ᵀ and of x x̃ᵀ. Without the second, x̃ stands for x.
    is_last: whether `cross` may be overwritten.
    """
    if cross is None:
        return np.zeros(matrix.shape[::-1])
    difference = np.subtract(cross, hessian, out=cross if is_last else None)
    moved: Float64 = difference.T @ matrix.T.astype(np.float64)
    return moved


def compensated_target(matrix: Matrix, hessian: Float64, moved: Float64) -> Matrix:
    """W' (R, C): the weight whose outputs for the inputs x̃ are closest to W x.

    Parameters
    ----------
    matrix : (R, C) float32
        W.
    hessian : (C, C) float64
        Mean of x̃ x̃ᵀ.
    moved : (C, R) float64
        From `moved_outputs`.
    """
    damped = hessian.copy()
    damped[np.diag_indices(len(damped))] += DAMP * np.diagonal(hessian).mean()
    if not damped.any():
        return matrix
    # W' - W = W (E[x x̃ᵀ] - E[x̃ x̃ᵀ]) E[x̃ x̃ᵀ]⁻¹, so that damping pulls W' towards W.
    delta = np.linalg.solve(damped, moved)
    return np.asarray(matrix + delta.T, np.float32)
