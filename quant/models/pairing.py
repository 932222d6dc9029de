"""Pair the inputs of a weight in a model with those in its partly quantized copy.

Both models are run on the same tokens. A row of inputs belongs to the same position in both, unless
rows are picked by activations, as a router does: then rows are paired by the tokens that they
belong to. A row without a counterpart is paired with itself.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.calibration.statistics import Part, WeightStatistics
from quant.numerics.hessian import as_array
from quant.types import Array, Indices, Matrix

if TYPE_CHECKING:
    from torch import Tensor

    from quant.calibration.batches import Arguments

MAX_DIFFERENCE = 0.5  # of squares: rows that differ by more are rows of other tokens


class Inputs(NamedTuple):
    """Inputs (N, m) of some rows of a weight in one product, and their tokens (N,) if known."""

    rows: Indices
    columns: Indices | None
    values: Matrix
    tokens: Indices | None


def record_inputs(
    name: str, weight: "Tensor", n_matmuls: int, arguments: "Arguments", run: Callable[[], Any]
) -> tuple[list[Inputs], int]:
    """(inputs of a weight, in how many products) of its first `n_matmuls` while `run` runs."""
    from quant.calibration.matmul_hooks import EmbeddingLookup, Matmul, MatmulRecorder
    from quant.calibration.model_call import EnoughError
    from quant.calibration.row_tokens import RowTokens

    recorded: list[Inputs] = []
    n_seen, is_kept = 0, arguments.is_kept

    def on_call(matmul: Matmul | EmbeddingLookup, output: "Tensor") -> "Tensor":
        nonlocal n_seen
        if isinstance(matmul, Matmul):
            n_seen += 1
            for piece in matmul.pieces:
                values = as_array(piece.inputs).reshape(-1, piece.inputs.shape[-1])
                tokens = None if piece.tokens is None else piece.tokens.numpy()
                if tokens is not None and is_kept is not None:
                    chosen = is_kept.numpy()[tokens]
                    values, tokens = values[chosen], tokens[chosen]
                values = values.astype(np.float32, copy=False)
                recorded.append(Inputs(piece.rows, piece.columns, values, tokens))
            if n_seen == n_matmuls:
                raise EnoughError
        return output

    if n_matmuls:
        recorder = MatmulRecorder({name: weight}, on_call, RowTokens(arguments.n_tokens))
        with recorder, suppress(EnoughError):
            run()
    return recorded, n_seen


class GroupInputs(NamedTuple):
    """Inputs x̃ of weights in the copy, beside those x in the model.

    Attributes
    ----------
    parts : list of Part
    is_whole : bool
        Whether there is one part, of all rows of any of the weights.
    share_single : float
        Share of the rows of inputs x̃ that have no counterpart.
    """

    parts: list[Part]
    is_whole: bool
    share_single: float


class PairedStatistics:
    """Sums of the inputs x̃ of a weight in the copy, beside those x in the model."""

    def __init__(self, statistics: WeightStatistics) -> None:
        self._statistics = statistics
        self._n_rows = self._n_single = 0

    def add(self, original: list[Inputs], quantized: list[Inputs]) -> None:
        """Add the inputs of one batch."""
        waiting: dict[bytes, list[Inputs]] = {}
        for inputs in original:
            waiting.setdefault(inputs.rows.tobytes(), []).append(inputs)
        for inputs in quantized:
            others = waiting.get(inputs.rows.tobytes())
            other = others.pop(0) if others else None
            partners, n_single = paired(other, inputs)
            self._n_rows += len(inputs.values)
            self._n_single += n_single
            self._statistics.add(inputs.rows, inputs.columns, inputs.values, partners)

    def finish(self) -> GroupInputs:
        """The means over all batches; the sums are gone."""
        is_whole = self._statistics.is_whole
        share_single = self._n_single / max(self._n_rows, 1)
        return GroupInputs(self._statistics.take_parts(), is_whole, share_single)


def paired(original: Inputs | None, quantized: Inputs) -> tuple[Array, int]:
    """(x beside each row of x̃, how many rows of x̃ have no counterpart and stand for themselves)."""
    x = quantized.values
    if original is None or not len(original.values):
        return x, len(x)
    tokens, others = quantized.tokens, original.tokens
    if tokens is not None and others is not None:
        if np.array_equal(tokens, others):
            return original.values, 0
        here, there = match(tokens, others)
        partners = x.copy()
        partners[here] = original.values[there]
        return partners, len(x) - len(here)
    if original.values.shape == x.shape:
        difference = np.square(original.values - x, dtype=np.float64).sum()
        if difference <= MAX_DIFFERENCE * np.square(original.values, dtype=np.float64).sum():
            return original.values, 0
    return x, len(x)


def match(tokens: Indices, others: Indices) -> tuple[Indices, Indices]:
    """Indices of the rows of equal tokens in both; a token that comes twice, in order."""
    keys, other_keys = numbered(tokens), numbered(others)
    common = np.intersect1d(keys, other_keys, assume_unique=True, return_indices=True)
    return common[1].astype(np.int64), common[2].astype(np.int64)


def numbered(tokens: Indices) -> Indices:
    """(N,) int64: a key for each token and how often it came before, so that no key comes twice."""
    order = np.argsort(tokens, kind="stable")
    in_order = tokens[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
    occurrence = np.arange(len(tokens)) - np.repeat(starts, np.diff(np.r_[starts, len(tokens)]))
    keys = np.empty(len(tokens), np.int64)
    keys[order] = in_order * 2**31 + occurrence
    return keys
