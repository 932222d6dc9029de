"""Calibration: Hessians of the inputs of a model's weights, and Fisher information of the outputs.

Inputs are collected from ``F.linear``, ``matmul``, ``mm``, ``addmm``, and from convolutions of one
or two dimensions without groups, inside of any module or outside of all. Other products (einsum,
torch's fused attention, compiled code, slices of a weight) are not seen. Lookups by
``F.embedding`` are collected if Fisher information is asked for.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.base.config import check_int
from quant.base.memory import parse_bytes
from quant.numerics.hessian import Hessian
from quant.types import Float64

if TYPE_CHECKING:
    from torch import nn

    from quant.calibration.collector import StatisticsCollector

Collect = Callable[[Collection[str]], "StatisticsCollector"]


class Calibration:
    """Hessians and Fisher information of weights by name; `calibrate` makes one.

    An error E (out, in) of a weight costs ``sum(g * diag(E H Eᵀ))``. H is the mean of x xᵀ over
    the weight's inputs x; g (out,) is the Fisher information of its outputs, or 1 without Fisher
    information. If rows of the weight are also looked up, and there is Fisher information, the
    cost has a second term ``sum(f * diag(E G Eᵀ))``. f (out,) is the number of lookups of a row
    per label; G is the mean of γ γᵀ over the gradients γ of the looked-up rows. With Fisher
    information, half of the cost approximates the increase of the loss in nats a token.

    Attributes
    ----------
    names : tuple of str
        Weights that the batches reached, in the model's order.
    passes : tuple of tuples of str
        The same names; the Hessians of one tuple are collected in the same pass. There is one
        tuple unless a memory limit was set.
    has_fisher : bool
        Whether there is Fisher information.
    input_groups : tuple of tuples of str
        Weights that were multiplied, in the order of first use. Weights of one tuple have the
        same inputs.
    batches : iterable, or None
        The calibration batches; None if they were an iterator, which is used up.
    n_matmuls : tuple of mappings
        For each batch, how often each weight was multiplied.
    """

    def __init__(
        self,
        *,
        _first_pass: "StatisticsCollector",
        _names: tuple[str, ...],
        _passes: tuple[tuple[str, ...], ...],
        _collect: Collect,
        _batches: Iterable[Any],
    ) -> None:
        self.names, self.passes = _names, _passes
        self.has_fisher = _first_pass.n_labels > 0
        self.input_groups = tuple(map(tuple, _first_pass.input_groups))
        self.batches = None if iter(_batches) is _batches else _batches
        self.n_matmuls = tuple(_first_pass.n_matmuls)
        self._collect = _collect
        self._first_pass = _first_pass
        self._hessians, _first_pass.hessians = _first_pass.hessians, {}
        self._last_terms: tuple[str, list[tuple[Float64, Float64]]] = "", []

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def hessian(self, name: str) -> Hessian:
        """Mean of x xᵀ over all inputs x of the weight, taken as a matrix (out, in): H.

        With a memory limit, a Hessian of another pass than the last one takes a pass over the
        batches, through the model as it is now.

        Raises
        ------
        ValueError
            If the weight was never multiplied.
        """
        check_reached(name, self._first_pass.columns)
        if name not in self._hessians:
            names = next(names for names in self.passes if name in names)
            self._hessians = {}  # free the memory before the next pass
            self._hessians = self._collect(names).hessians
        return self._hessians[name]

    def fisher(self, name: str) -> Float64 | None:
        """Fisher information g (out,) float64 of a weight's outputs; None if not collected.

        The mean, over labels that are sampled from the model's own distribution, of the squared
        gradient of the loss in each output.
        """
        check_reached(name, self._first_pass.columns)
        if not self.has_fisher:
            return None
        squares = self._first_pass.squares.get(name)
        if squares is None:  # there was no gradient: the loss does not depend on the outputs
            return np.zeros(self._first_pass.n_outputs[name])
        return np.asarray(squares) / self._first_pass.n_labels

    def is_transposed(self, name: str) -> bool:
        """Whether the weight is stored (in, out); ValueError if it was not reached."""
        self.check_reached(name)
        return self._first_pass.is_transposed.get(name, False)

    def cost(self, name: str) -> Float64:
        """(in, in) float64: the matrix that a quantizer takes as the weight's Hessian.

        H alone, or H and G, each weighted by its sum over the rows.
        """
        terms = self._terms(name)
        if len(terms) == 1:
            return terms[0][0]
        total: Float64 = np.sum([weights.sum() * matrix for matrix, weights in terms], axis=0)
        return total

    def error(self, name: str, errors: Float64) -> float:
        """Cost of errors (out, in) float64 of a weight; ValueError if it was not reached."""
        return float(
            sum(
                ((errors @ matrix) * errors).sum(1) @ weights
                for matrix, weights in self._terms(name)
            )
        )

    def row_weights(self, name: str) -> Float64:
        """(out,) float64: relative cost of the same error in each row."""
        total: Float64 = np.sum([weights for _, weights in self._terms(name)], axis=0)
        return total

    def check_reached(self, name: str) -> None:
        """Raise ValueError unless calibration saw the weight in use."""
        check_reached(name, self.names)

    def _terms(self, name: str) -> list[tuple[Float64, Float64]]:
        """Terms of the cost: [(matrix (in, in), row weights (out,)), ...].

        The terms of one weight are kept: quantization asks for its cost and then for its error.
        """
        if self._last_terms[0] != name:
            self._last_terms = name, self._make_terms(name)
        return self._last_terms[1]

    def _make_terms(self, name: str) -> list[tuple[Float64, Float64]]:
        self.check_reached(name)
        first = self._first_pass
        terms = []
        if name in first.columns:
            fisher = self.fisher(name)
            weights = np.ones(first.n_outputs[name]) if fisher is None else fisher
            terms.append((self.hessian(name).matrix(), weights))
        if name in first.lookups and not self.is_transposed(name):
            counts = np.asarray(first.counts[name]) / first.n_labels
            terms.append((first.lookups[name].matrix(), counts))
        return terms


def check_reached(name: str, names: Container[str]) -> None:
    """Raise ValueError unless the weight is among the names that calibration saw in use."""
    if name not in names:
        raise ValueError(
            "a weight that needs a Hessian must be used during calibration, got no matrix product "
            f"with {name}; calibrate with batches that use it, or give it another rule in the "
            "recipe"
        )


def calibrate(
    model: "nn.Module",
    batches: Iterable[Any],
    *,
    names: Iterable[str] | None = None,
    fisher: bool = False,
    seed: int = 0,
    memory_limit: int | str | None = None,
    progress: bool = False,
) -> Calibration:
    """Hessians of the inputs of a model's weights, collected in one pass over the batches.

    The model runs in eval mode and is left as it was.

    Parameters
    ----------
    model : torch.nn.Module
    batches : iterable
        Arguments of the model, for the most part (B, T) int64 tokens, numpy or torch, without
        padding. A tuple holds positional arguments, a dict keyword arguments.
    names : iterable of str, optional
        Parameters to calibrate; all by default. A tied parameter goes by its first name.
    fisher : bool
        Whether to collect Fisher information too, with a backward pass for each batch. The model
        must return logits, an object with ``.logits``, or a tuple whose first item is logits.
    seed : int >= 0
        Seed of the labels that are sampled for the Fisher information.
    memory_limit : int or str, optional
        Most bytes of Hessians in memory, as an int or a text such as ``"2GiB"``. Hessians beyond
        the limit are collected in further passes, when they are needed. The batches must then be
        iterable more than once.
    progress : bool
        Whether to show a bar on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If an argument is invalid, there is no batch, a weight is multiplied from both sides, its
        inputs are not finite, or its Hessian alone exceeds the limit.
    """
    import torch
    from tqdm import tqdm

    from quant.calibration.collector import StatisticsCollector

    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; pass the module itself"
        )
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    limit = None
    if memory_limit is not None:
        limit = parse_bytes(memory_limit, "memory_limit")
        if iter(batches) is batches:
            raise ValueError(
                "batches must be iterable more than once when memory_limit is set, got "
                f"{type(batches).__name__}; pass a list"
            )
    parameters = dict(model.named_parameters())
    weights = {name: weight for name, weight in parameters.items() if weight.ndim >= 2}
    chosen = list(weights) if names is None else list(names)
    if unknown := [name for name in chosen if name not in parameters]:
        raise ValueError(
            f"names must be parameters of the model, got {', '.join(unknown)}; use the first name "
            "of a tied parameter"
        )

    def collect(names: Collection[str], seed: int | None = None) -> StatisticsCollector:
        collector = StatisticsCollector(names, limit)
        bar = tqdm(batches, "calibrate", unit=" batches", disable=None if progress else True)
        if not collector.run(model, weights, bar, seed):
            raise ValueError("batches must hold at least one batch, got none; check the iterable")
        return collector

    first = collect(chosen, seed if fisher else None)
    reached = tuple(name for name in weights if name in {*first.columns, *first.lookups})
    later = {name: n for name, n in first.columns.items() if name not in first.hessians}
    passes = [tuple(name for name in reached if name not in later)]
    passes.extend(split_into_passes(later, limit or 0))
    return Calibration(
        _first_pass=first,
        _names=reached,
        _passes=tuple(filter(None, passes)),
        _collect=collect,
        _batches=batches,
    )


def split_into_passes(columns: dict[str, int], memory_limit: int) -> Iterator[tuple[str, ...]]:
    """Tuples of names whose Hessians fit the memory limit together, in order."""
    names: list[str] = []
    n_bytes = 0
    for name, n in columns.items():
        if 8 * n * n > memory_limit:
            raise ValueError(
                f"memory_limit must be at least {8 * n * n} bytes for {name} of {n} columns, got "
                f"{memory_limit}; raise it, or leave the weight out of names"
            )
        if n_bytes + 8 * n * n > memory_limit:
            yield tuple(names)
            names, n_bytes = [], 0
        names.append(name)
        n_bytes += 8 * n * n
    if names:
        yield tuple(names)
