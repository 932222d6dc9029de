"""Calibration: Hessians of the inputs of a model's weights, and Fisher information of the outputs.

Inputs are collected from ``F.linear``, all matrix products of torch, ``einsum``, ``grouped_mm``,
attention by ``nn.MultiheadAttention``, and convolutions of one or two dimensions, inside of any
module or outside of all; of whole weights and of slices of them. Products inside of ``nn.LSTM`` or
of compiled code are not seen. Lookups by ``F.embedding`` are collected if Fisher information is
asked for.
"""

from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ngrammix.exclusive import Guard, exclusive
from quant.base.config import check_int
from quant.base.matrix import ROWS_FIRST, TRANSPOSED, Axes
from quant.base.memory import parse_bytes
from quant.base.screen import progress_bar
from quant.numerics.hessian import Hessian
from quant.numerics.parts import HessianPart, PartHessian
from quant.types import Float64, Indices

if TYPE_CHECKING:
    from torch import nn

    from quant.calibration.collector import StatisticsCollector
    from quant.calibration.statistics import WeightStatistics

Collect = Callable[[Collection[str]], "StatisticsCollector"]


@exclusive("_guard")
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
    batches : list
        The calibration batches.
    n_matmuls : tuple of mappings
        For each batch, how often each weight was multiplied.
    two_sided : frozenset of str
        Weights that were multiplied along different axes; they are not calibrated.
    uses : dict of frozensets of str
        "elementwise", "other": in what weights were used beside products and lookups.
    looked_up : frozenset of str
        Weights that rows were looked up in.
    note : str
        What the report should say about the batches; empty unless logits are missing.
    changing : frozenset of str
        Parameters that a forward pass changes.
    settings : dict
        ``fisher``, ``seed`` and ``names`` as `calibrate` took them.
    """

    def __init__(
        self,
        *,
        _first_pass: "StatisticsCollector",
        _names: tuple[str, ...],
        _passes: tuple[tuple[str, ...], ...],
        _collect: Collect,
        _batches: list[Any],
        _changing: Collection[str],
        _settings: dict[str, Any],
    ) -> None:
        self.names, self.passes = _names, _passes
        self.has_fisher = _first_pass.n_labels > 0
        groups = ([n for n in group if n in _names] for group in _first_pass.input_groups)
        self.input_groups = tuple(map(tuple, filter(None, groups)))
        self.batches = _batches
        self.n_matmuls = tuple(_first_pass.n_matmuls)
        self.two_sided = frozenset(_first_pass.two_sided)
        self.uses = {name: frozenset(uses) for name, uses in _first_pass.uses.items()}
        self.looked_up = frozenset(_first_pass.looked_up)
        self.note = note_of(_first_pass)
        self.changing = frozenset(_changing)
        self.settings = _settings
        self._guard = Guard()
        self._collect = _collect
        self._first_pass = _first_pass
        self._weights = dict(_first_pass.weights)
        self._last_terms: tuple[str, list[Term]] = "", []

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def hessian(self, name: str) -> Hessian:
        """Mean of x xᵀ over all inputs x of the weight, taken as a matrix (out, in): H.

        With a memory limit, a Hessian of another pass than the last one takes a pass over the
        batches, through the model as it is now.

        Raises
        ------
        ValueError
            If the weight was never multiplied, or its rows have inputs of their own, as experts.
        """
        statistics = self._statistics(name)
        if not statistics.is_whole:
            raise ValueError(
                f"a weight with one Hessian must be multiplied as a whole, got parts of {name}; "
                "use cost, which has a Hessian of each part"
            )
        return next(iter(statistics.sums.values())).hessian

    def fisher(self, name: str) -> Float64 | None:
        """Fisher information g (out,) float64 of a weight's outputs; None if not collected.

        The mean, over labels that are sampled from the model's own distribution, of the squared
        gradient of the loss in each output. 0 where the loss does not depend on the output.
        """
        check_reached(name, self._first_pass.weights)
        if not self.has_fisher:
            return None
        return self._first_pass.weights[name].squares / self._first_pass.n_labels

    def axes(self, name: str) -> Axes:
        """Which axes of the weight are rows; ValueError if it was not reached."""
        self.check_reached(name)
        statistics = self._first_pass.weights.get(name)
        return ROWS_FIRST if statistics is None else statistics.axes

    def is_transposed(self, name: str) -> bool:
        """Whether the weight is stored (in, out); ValueError if it was not reached."""
        return self.axes(name) == TRANSPOSED

    def cost(self, name: str) -> "Float64 | PartHessian":
        """(in, in) float64: the matrix that a quantizer takes as the weight's Hessian.

        H alone, or H and G, each weighted by its sum over the rows. For a weight whose rows have
        inputs of their own, the matrix of each part.
        """
        terms = self._terms(name)
        parts = tuple(HessianPart(t.rows, t.matrix) for t in terms if t.rows is not None)
        if parts:
            return PartHessian(parts)
        if len(terms) == 1:
            return terms[0].matrix
        total: Float64 = np.sum([term.weights.sum() * term.matrix for term in terms], axis=0)
        return total

    def error(self, name: str, errors: Float64) -> float:
        """Cost of errors (out, in) float64 of a weight; ValueError if it was not reached."""
        costs = []
        for term in self._terms(name):
            chosen = errors if term.rows is None else errors[term.rows]
            costs.append(((chosen @ term.matrix) * chosen).sum(1) @ term.weights)
        return float(sum(costs))

    def row_weights(self, name: str) -> Float64:
        """(out,) float64: relative cost of the same error in each row; 0 without inputs."""
        terms = self._terms(name)
        statistics = self._first_pass.weights.get(name)
        total = np.zeros(len(terms[0].weights) if statistics is None else statistics.n_rows)
        for term in terms:
            total[slice(None) if term.rows is None else term.rows] += term.weights
        return total

    def check_reached(self, name: str) -> None:
        """Raise ValueError unless calibration saw the weight in use."""
        check_reached(name, self.names)

    def _statistics(self, name: str) -> "WeightStatistics":
        """Statistics with the Hessians; collected in a pass of their own, if need be."""
        check_reached(name, self._first_pass.weights)
        if name not in self._weights or not self._weights[name].sums:
            names = next(names for names in self.passes if name in names)
            for statistics in self._weights.values():
                statistics.sums = {}  # free the memory before the next pass
            self._weights = self._collect(names).weights
        return self._weights[name]

    def _terms(self, name: str) -> "list[Term]":
        """Terms of the cost.

        The terms of one weight are kept: quantization asks for its cost and then for its error.
        """
        if self._last_terms[0] != name:
            self._last_terms = name, self._make_terms(name)
        return self._last_terms[1]

    def _make_terms(self, name: str) -> "list[Term]":
        self.check_reached(name)
        first, terms = self._first_pass, []
        if name in first.weights:
            statistics, fisher = self._statistics(name), self.fisher(name)
            parts = statistics.parts()
            mean = sum(part.n for part in parts) / max(len(parts), 1)
            for rows, matrix, n, _ in parts:
                weights = np.full(len(rows), n / mean) if fisher is None else fisher[rows]
                is_whole = len(rows) == statistics.n_rows
                terms.append(Term(None if is_whole else rows, matrix, weights))
        if name in first.lookups and not self.is_transposed(name):
            counts = np.asarray(first.counts[name]) / first.n_labels
            terms.append(Term(None, first.lookups[name].matrix(), counts))
        return terms


class Term(NamedTuple):
    """A term of the cost of a weight: a matrix (in, in), and weights (n,) of its rows.

    rows (n,) int64: of the weight's matrix; None for all.
    """

    rows: Indices | None
    matrix: Float64
    weights: Float64


def note_of(first: "StatisticsCollector") -> str:
    """Says that the model returned logits of some positions only; empty if it did not."""
    if not first.n_logits or first.n_logits >= first.n_positions:
        return ""
    return (
        f"the model returned logits of {first.n_logits} of {first.n_positions} positions, so that "
        "its head was calibrated on those alone; give it targets, or return all logits"
    )


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
        Arguments of the model, for the most part (B, T) tokens; see
        `quant.calibration.batches.arguments_of`. They are read once and kept. Positions that an
        attention mask or a negative label leaves out are in no Hessian and no other figure.
    names : iterable of str, optional
        Parameters to calibrate; all by default. A tied parameter goes by its first name.
    fisher : bool
        Whether to collect Fisher information too, with a backward pass for each batch. The model
        must return logits, an object with ``.logits``, or a tuple whose first item is logits.
    seed : int >= 0
        Seed of the labels that are sampled for the Fisher information.
    memory_limit : int or str, optional
        Most bytes of Hessians in memory, as an int or a text such as ``"2GiB"``. Hessians beyond
        the limit are collected in further passes, when they are needed.
    progress : bool
        Whether to show a bar on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If an argument is invalid, there is no batch, inputs of a weight are not finite, or its
        Hessians alone exceed the limit.
    """
    from quant.calibration.batches import as_list
    from quant.calibration.collector import StatisticsCollector
    from quant.calibration.model_state import ModelState

    check_model(model)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    limit = None if memory_limit is None else parse_bytes(memory_limit, "memory_limit")
    kept = as_list(batches)
    parameters = dict(model.named_parameters())
    weights = {name: weight for name, weight in parameters.items() if weight.ndim >= 2}
    chosen = list(weights) if names is None else list(names)
    if unknown := [name for name in chosen if name not in parameters]:
        raise ValueError(
            f"names must be parameters of the model, got {', '.join(unknown)}; use the first name "
            "of a tied parameter"
        )
    changing: Collection[str] | None = None

    def collect(names: Collection[str], seed: int | None = None) -> StatisticsCollector:
        nonlocal changing
        collector = StatisticsCollector(names, limit)
        state = ModelState(model, changing)
        bar = progress_bar(kept, is_shown=progress, desc="calibrate", unit=" batches")
        collector.run(model, weights, bar, seed, state)
        changing = state.changed
        return collector

    first = collect(chosen, seed if fisher else None)
    assert changing is not None
    reached = {*first.weights, *first.lookups} - first.two_sided
    reached -= {
        name
        for name in first.weights
        if name not in first.later and not first.weights[name].sums and name not in first.lookups
    }
    in_order = tuple(name for name in weights if name in reached)
    later = {name: n for name, n in first.later.items() if name in reached}
    passes = [tuple(name for name in in_order if name not in later)]
    passes.extend(split_into_passes(later, limit or 0))
    return Calibration(
        _first_pass=first,
        _names=in_order,
        _passes=tuple(filter(None, passes)),
        _collect=collect,
        _batches=kept,
        _changing=changing,
        _settings={"fisher": fisher, "seed": seed, "names": None if names is None else chosen},
    )


def check_model(model: Any) -> None:
    """Raise ValueError unless the model is a module with weights in memory."""
    import torch

    check_module(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if torch.nn.parameter.is_lazy(tensor):
            raise ValueError(
                f"{name} must have a shape, got that of a lazy module; run the model on a batch "
                "first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{name} must be in memory, got the device meta; load the weights first"
            )


def check_module(model: Any) -> None:
    """Raise ValueError unless the model is a module."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; pass the module itself"
        )


def split_into_passes(later: dict[str, int], memory_limit: int) -> Iterator[tuple[str, ...]]:
    """Tuples of names whose Hessians fit the memory limit together, in order."""
    names: list[str] = []
    n_bytes = 0
    for name, n in later.items():
        if n > memory_limit:
            raise ValueError(
                f"memory_limit must be at least {n} bytes for the Hessians of {name}, got "
                f"{memory_limit}; raise it, or leave the weight out of names"
            )
        if n_bytes + n > memory_limit:
            yield tuple(names)
            names, n_bytes = [], 0
        names.append(name)
        n_bytes += n
    if names:
        yield tuple(names)
