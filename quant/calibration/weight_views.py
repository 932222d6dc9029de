"""Recognize a weight, or a part of it, in any tensor that shares its memory.

A model may multiply its inputs with a weight itself, with a slice, an expert of a stack, a
transpose, or ``weight.data``. All of these are views: the memory that they share tells which
entries of the weight they hold. A cast or another copy has memory of its own; it is remembered,
together with the view that it was made of.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quant.base.matrix import Axes
from quant.types import Indices


class Source(NamedTuple):
    """Memory that holds entries of a weight.

    Attributes
    ----------
    name : str
        Name of the weight.
    tensor : tensor
        The weight or a copy of a view of it; kept alive, since freed memory is used again.
    entries : tensor, or None
        For a copy, the view that it was made of; its entries are the same, in the same order.
    """

    name: str
    tensor: Tensor
    entries: Tensor | None


class Operand(NamedTuple):
    """A matrix of outputs and inputs in a weight: which of its rows and columns they are.

    Attributes
    ----------
    name : str
    axes : Axes
        Which axes of the weight are rows.
    rows : (n,) int64
        Rows of the weight's matrix, in the order of the outputs.
    columns : (m,) int64, or None
        Columns, in the order of the inputs; None for all in order.
    n_columns : int
        Columns of the weight's matrix.
    """

    name: str
    axes: Axes
    rows: Indices
    columns: Indices | None
    n_columns: int


class WeightViews:
    """The weights of a model, found by their memory.

    Parameters
    ----------
    weights : dict of tensors
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = dict(weights)
        self._sources: dict[int, list[Source]] = {}
        self._operands: dict[tuple[object, ...], Operand | None] = {}
        for name, weight in weights.items():
            self._add(Source(name, weight, None))

    def find(self, tensor: object) -> Source | None:
        """The memory of a weight that a tensor shares, or None."""
        for source in self._sources.get(address(tensor), ()):
            assert isinstance(tensor, Tensor)
            first = source.tensor.storage_offset()
            sizes = zip(source.tensor.shape, source.tensor.stride(), strict=True)
            last = first + sum((n - 1) * stride for n, stride in sizes)
            if first <= tensor.storage_offset() <= last:
                return source
        return None

    def add_copy(self, copy: Tensor, view: Tensor) -> None:
        """Remember a copy of a view of a weight: the same entries in the same order."""
        source = self.find(view)
        if source is not None and self.find(copy) is None:
            self._add(Source(source.name, copy, view))

    def operand(
        self, tensor: Tensor, rows: Iterable[int], columns: Iterable[int], fixed: Mapping[int, int]
    ) -> Operand | None:
        """The matrix that axes of a tensor are, or None if they are no matrix of a weight.

        Parameters
        ----------
        tensor : tensor
            A view or a copy of a weight.
        rows, columns : iterables of int
            Axes of the tensor that are outputs and inputs.
        fixed : dict of int
            Index in each other axis.
        """
        source = self.find(tensor)
        if source is None:
            return None
        where = tensor.storage_offset(), tensor.stride(), tuple(tensor.shape)
        key = (id(source.tensor), *where, tuple(rows), tuple(columns), tuple(fixed.items()))
        if key not in self._operands:
            self._operands[key] = self._operand(source, tensor, rows, columns, fixed)
        return self._operands[key]

    def _operand(
        self,
        source: Source,
        tensor: Tensor,
        rows: Iterable[int],
        columns: Iterable[int],
        fixed: Mapping[int, int],
    ) -> Operand | None:
        weight = self._weights[source.name]
        shape = tuple(weight.shape)
        first = int(tensor.storage_offset())
        first += sum(i * int(tensor.stride(axis)) for axis, i in fixed.items())
        of_rows, of_columns = (
            np.array(np.unravel_index(self._entries(source, memory(tensor, axes, first)), shape))
            for axes in (rows, columns)
        )
        across, down = (np.ptp(where, axis=1) > 0 for where in (of_columns, of_rows))
        if (across & down).any():
            return None  # an axis of the weight is cut into outputs and inputs
        if not across.any():  # one column
            across[np.flatnonzero(~down)[-1:]] = True
        axes = Axes(tuple(int(i) for i in np.flatnonzero(~across)))
        if not axes.fits(shape):
            return None
        inputs = [i for i in range(len(shape)) if i not in axes.rows]
        row, column = (
            flat_index(where[list(used)], tuple(shape[i] for i in used))
            for where, used in ((of_rows, axes.rows), (of_columns, inputs))
        )
        n = prod(shape[i] for i in inputs)
        is_all = len(column) == n and (np.diff(column) == 1).all()
        return Operand(source.name, axes, row, None if is_all else column, n)

    def _entries(self, source: Source, offsets: Indices) -> Indices:
        """Indices, in the flat weight, of entries at offsets of the memory of a source."""
        shape, strides = tuple(source.tensor.shape), tuple(source.tensor.stride())
        rest: Indices = offsets - int(source.tensor.storage_offset())
        index = np.zeros((len(shape), len(offsets)), np.int64)
        for axis in sorted(range(len(shape)), key=lambda axis: -int(strides[axis])):
            if shape[axis] > 1 and strides[axis]:
                index[axis], rest = np.divmod(rest, strides[axis])
        if source.entries is None:
            return flat_index(index, shape)
        view = source.entries
        below = self.find(view)
        assert below is not None  # as when the copy was added
        first = int(view.storage_offset())
        return self._entries(below, first + np.array(view.stride(), np.int64) @ index)

    def _add(self, source: Source) -> None:
        pointer = address(source.tensor)
        if pointer:
            self._sources.setdefault(pointer, []).append(source)


def address(tensor: object) -> int:
    """Address of the memory of a tensor; 0 if it has none, as on the device meta."""
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
        return 0
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # subclasses without a storage
        return 0


def flat_index(index: Indices, shape: tuple[int, ...]) -> Indices:
    """Index (N,) in the flat array of this shape, of an index (axes, N)."""
    return np.asarray(np.ravel_multi_index(tuple(index), shape), np.int64)


def memory(tensor: Tensor, axes: Iterable[int], first: int) -> Indices:
    """Offsets in memory of all entries along some axes, in order, beginning with `first`."""
    offsets = np.array([first], np.int64)
    for axis in axes:
        steps = np.arange(tensor.shape[axis], dtype=np.int64) * tensor.stride(axis)
        offsets = (offsets[:, None] + steps).ravel()
    return offsets
