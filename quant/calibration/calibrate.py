"""Calibration: what a model's weights are multiplied with, and how much their outputs matter.

Multiplied by ``F.linear``, ``matmul``, ``addmm``, or a convolution of one or two dimensions without
groups, in any module or none. Weights in other products (einsum, attention inside of torch,
compiled code, slices of a weight) are not reached. Embeddings are, by ``F.embedding``, if Fisher
information is asked for.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import check_int
from quant.numerics.hessian import Hessian

if TYPE_CHECKING:
    from torch import nn

    from quant.calibration.collector import Gathering

Float64 = NDArray[np.float64]
Gather = Callable[[Collection[str]], "Gathering"]


class Calibration:
    """Hessians, and Fisher information of outputs, of weights by name; `calibrate` makes one.

    The errors E of a weight cost ``sum(g * diag(E H Eᵀ))``: H the mean of x xᵀ over what it is
    multiplied with, g (out,) the Fisher information, or 1. To that comes, where rows of it are
    looked up as well and there is Fisher information, ``sum(f * diag(E G Eᵀ))``: f how often a row
    is looked up for each label, G the mean of what their gradients are with each other. Half of
    the cost is about what errors add to the loss of a token, in nats.

    Attributes
    ----------
    names : tuple of str
        Weights that were reached, in the model's order.
    groups : tuple of tuples of str
        The same: those of a group are gathered in one pass. All in one, unless memory is short.
    is_fisher : bool
        Whether there is Fisher information.
    flows : tuple of tuples of str
        Weights that are multiplied, in the order of their use; those of one tuple, with the same.
    batches : iterable, or None
        What was calibrated on, unless there is no second pass over it.
    n_products : tuple of mappings
        For each batch, how often each weight was multiplied.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        groups: tuple[tuple[str, ...], ...],
        first: "Gathering",
        gather: Gather,
        batches: Iterable[Any],
    ) -> None:
        self.names, self.groups = names, groups
        self.is_fisher = first.n_labels > 0
        self.flows = tuple(map(tuple, first.flows))
        self.batches = None if iter(batches) is batches else batches
        self.n_products = tuple(first.n_products)
        self._gather = gather
        self._first = first
        self._held, first.hessians = first.hessians, {}

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def hessian(self, name: str) -> Hessian:
        """Mean of x xᵀ over all rows x that the weight, as a matrix (out, in), multiplies: H.

        Where memory is short, and it is of another group than the last one, this takes a pass over
        the batches, through the model as it then is. ValueError if no product reached it.
        """
        check_reached(name, self._first.columns)
        if name not in self._held:
            group = next(group for group in self.groups if name in group)
            self._held = {}  # before others come
            self._held = self._gather(group).hessians
        return self._held[name]

    def fisher(self, name: str) -> Float64 | None:
        """How much each output matters, g (out,) float64; None if it was not asked for.

        The mean over labels, drawn from the model's own distribution, of the squared gradients of
        their loss in all that the output was.
        """
        check_reached(name, self._first.columns)
        if not self.is_fisher:
            return None
        squares = self._first.squares.get(name)
        if squares is None:  # no gradient came back: the loss does not depend on it
            return np.zeros(self._first.n_outputs[name])
        return np.asarray(squares) / self._first.n_labels

    def is_transposed(self, name: str) -> bool:
        """Whether the weight is stored (in, out); ValueError if it was not reached."""
        self.check(name)
        return self._first.is_transposed.get(name, False)

    def cost(self, name: str) -> Float64:
        """(in, in) float64: what all rows share of the cost, for quantizers.

        H alone, or H and G as they weigh over all rows.
        """
        terms = self._terms(name)
        if len(terms) == 1:
            return terms[0][0]
        whole: Float64 = np.sum([each.sum() * matrix for matrix, each in terms], axis=0)
        return whole

    def error(self, name: str, errors: Float64) -> float:
        """The cost of errors (out, in) float64 of a weight; ValueError if it was not reached."""
        costs = [((errors @ matrix) * errors).sum(1) @ each for matrix, each in self._terms(name)]
        return float(sum(costs))

    def row_weights(self, name: str) -> Float64:
        """(out,): how the cost of the same errors differs from row to row."""
        weights: Float64 = np.sum([each for _, each in self._terms(name)], axis=0)
        return weights

    def _terms(self, name: str) -> list[tuple[Float64, Float64]]:
        """(matrix (in, in), weights (out,)): what adds up to the cost."""
        self.check(name)
        first = self._first
        terms = []
        if name in first.columns:
            fisher = self.fisher(name)
            each = np.ones(first.n_outputs[name]) if fisher is None else fisher
            terms.append((self.hessian(name).matrix(), each))
        if name in first.lookups and not self.is_transposed(name):
            counts = np.asarray(first.counts[name]) / first.n_labels
            terms.append((first.lookups[name].matrix(), counts))
        return terms

    def check(self, name: str) -> None:
        """Raise ValueError unless the weight was reached."""
        check_reached(name, self.names)


def check_reached(name: str, names: Container[str]) -> None:
    """Raise ValueError unless calibration saw the weight in use."""
    if name not in names:
        raise ValueError(
            f"calibration must reach a weight that needs a Hessian, got no product with {name}; "
            "give it batches that do, or the recipe another rule for it"
        )


def calibrate(
    model: "nn.Module",
    batches: Iterable[Any],
    *,
    names: Iterable[str] | None = None,
    fisher: bool = False,
    seed: int = 0,
    memory_limit: int | None = None,
    progress: bool = False,
) -> Calibration:
    """Hessians of the inputs of a model's weights, in one pass over the batches.

    The model is in eval mode meanwhile, and as before afterwards.

    Parameters
    ----------
    model : module of torch
    batches : iterable
        Of what the model takes: mostly (B, T) int64 tokens, numpy or torch, without padding; a
        tuple is several arguments, a dict named ones.
    names : iterable of str, optional
        Parameters that matter; all by default. Tied ones have the first of their names.
    fisher : bool
        Whether Fisher information is gathered too: a backward pass for each batch. The model must
        return logits, an object with ``.logits``, or a tuple that begins with them.
    seed : int >= 0
        Of the labels that are drawn for it.
    memory_limit : int >= 1, optional
        Most bytes of Hessians that are held; those beyond are gathered in passes of their own
        when they are asked for. The batches must then be a list, or iterable again otherwise.
    progress : bool
        Whether a bar is shown, on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If an argument is of another kind, there is no batch, a weight is multiplied from both
        sides, its inputs are not finite, or its Hessian alone exceeds the limit.
    """
    import torch
    from tqdm import tqdm

    from quant.calibration.collector import Gathering

    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model must be a module of torch, got {type(model).__name__}")
    check_int(seed, "seed", 0, 2**63 - 1)
    if memory_limit is not None:
        check_int(memory_limit, "memory_limit", 1, 2**63 - 1)
        if iter(batches) is batches:
            raise ValueError(
                "batches must be iterable again where memory is limited, got "
                f"{type(batches).__name__}; make a list of them"
            )
    parameters = dict(model.named_parameters())
    weights = {name: weight for name, weight in parameters.items() if weight.ndim >= 2}
    chosen = list(weights) if names is None else list(names)
    if unknown := [name for name in chosen if name not in parameters]:
        raise ValueError(
            f"names must be of the model's parameters, got {', '.join(unknown)}; tied ones have "
            "the first of their names"
        )

    def gather(names: Collection[str], seed: int | None = None) -> Gathering:
        gathering = Gathering(names, memory_limit)
        shown = tqdm(batches, "calibrate", unit=" batches", disable=None if progress else True)
        if not gathering.run(model, weights, shown, seed):
            raise ValueError("batches must be at least one, got none; see where they come from")
        return gathering

    first = gather(chosen, seed if fisher else None)
    reached = tuple(name for name in weights if name in {*first.columns, *first.lookups})
    rest = {name: n for name, n in first.columns.items() if name not in first.hessians}
    groups = [tuple(name for name in reached if name not in rest)]
    groups.extend(grouped(rest, memory_limit or 0))
    return Calibration(reached, tuple(filter(None, groups)), first, gather, batches)


def grouped(columns: dict[str, int], memory_limit: int) -> Iterator[tuple[str, ...]]:
    """Names whose Hessians fit the limit together, one group after the other."""
    group: list[str] = []
    n_bytes = 0
    for name, n in columns.items():
        if 8 * n * n > memory_limit:
            raise ValueError(
                f"memory_limit must be at least {8 * n * n} bytes for {name} of {n} columns, got "
                f"{memory_limit}; raise it, or leave the weight out of names"
            )
        if n_bytes + 8 * n * n > memory_limit:
            yield tuple(group)
            group, n_bytes = [], 0
        group.append(name)
        n_bytes += 8 * n * n
    if group:
        yield tuple(group)
