"""Hessians of the inputs of a model's weights, and Fisher information of their outputs."""

from collections.abc import Callable, Collection, Container, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ngrammix.exclusive import Guard, exclusive
from quant.base.matrix import ROWS_FIRST, TRANSPOSED, Axes
from quant.numerics.hessian import Hessian
from quant.numerics.parts import HessianPart, PartHessian
from quant.types import Float64, Indices

if TYPE_CHECKING:
    from quant.calibration.collector import StatisticsCollector
    from quant.calibration.statistics import WeightStatistics

ROWS = 1024  # of errors whose cost is computed at a time
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
    no_fisher : str
        Why there is no Fisher information although a recipe uses it; else empty.
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
        self.batches = _batches
        self.n_matmuls = tuple(_first_pass.n_matmuls)
        groups = ([n for n in group if n in _names] for group in _first_pass.input_groups)
        self.input_groups = tuple(part for group in groups for part in self._parts_of(group))
        self.two_sided = frozenset(_first_pass.two_sided)
        self.uses = {name: frozenset(uses) for name, uses in _first_pass.uses.items()}
        self.looked_up = frozenset(_first_pass.looked_up)
        self.note, self.no_fisher = note_of(_first_pass), ""
        self.changing = frozenset(_changing)
        self.settings = _settings
        self._guard = Guard()
        self._collect = _collect
        self._first_pass = _first_pass
        self._weights = dict(_first_pass.weights)
        self._given: dict[str, WeightStatistics] = {}
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
            rows = np.arange(len(errors)) if term.rows is None else term.rows
            of_rows = np.empty(len(rows))
            for start in range(0, len(rows), ROWS):
                chosen = errors[rows[start : start + ROWS]]
                of_rows[start : start + ROWS] = ((chosen @ term.matrix) * chosen).sum(1)
            costs.append(of_rows @ term.weights)
        return float(sum(costs))

    def row_weights(self, name: str) -> Float64:
        """(out,) float64: relative cost of the same error in each row; 0 without inputs."""
        terms = self._terms(name)
        statistics = self._first_pass.weights.get(name)
        total = np.zeros(len(terms[0].weights) if statistics is None else statistics.n_rows)
        for term in terms:
            total[slice(None) if term.rows is None else term.rows] += term.weights
        return total

    def has_hessian(self, name: str) -> bool:
        """Whether the Hessian of a weight is in memory."""
        return name in self._given or (name in self._weights and bool(self._weights[name].sums))

    def give(self, names: Iterable[str], inputs: "WeightStatistics | None") -> None:
        """Take statistics of weights with the same inputs from elsewhere; those before are freed.

        They must be of the same batches and of the model as it was. None only frees.
        """
        self._given, self._last_terms = {}, ("", [])
        if inputs is not None:
            first = self._first_pass.weights
            for name in names:
                self._given[name] = inputs.of_weight(first[name].axes, first[name].n_rows)

    def check_reached(self, name: str) -> None:
        """Raise ValueError unless calibration saw the weight in use."""
        check_reached(name, self.names)

    def _parts_of(self, group: list[str]) -> list[tuple[str, ...]]:
        """The group, divided by how often its weights were multiplied: the rest was by others."""
        parts: dict[tuple[int, ...], list[str]] = {}
        for name in group:
            parts.setdefault(tuple(each[name] for each in self.n_matmuls), []).append(name)
        return list(map(tuple, parts.values()))

    def _statistics(self, name: str) -> "WeightStatistics":
        """Statistics with the Hessians; collected in a pass of their own, if need be."""
        check_reached(name, self._first_pass.weights)
        if name in self._given:
            return self._given[name]
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
