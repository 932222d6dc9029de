"""One pass of calibration: batches through a model, Hessians of what reaches its weights."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quant.calibration.matmul_hooks import Lookup, Product, Watch
from quant.calibration.model_call import call, logits_of
from quant.numerics.hessian import Hessian

ITEM = 8  # bytes of an entry of a Hessian


class Gathering:
    """What one pass gathers.

    Parameters
    ----------
    names : collection of str
        Weights whose Hessians are wanted.
    memory_limit : int, optional
        Most bytes of Hessians: those seen first are gathered, as long as there is room.

    Attributes
    ----------
    hessians : dict of Hessian
        By name.
    columns : dict of int
        Of each weight wanted and reached, whether it was gathered or not.
    is_transposed : dict of bool
        Of these: whether it is stored (in, out).
    n_outputs : dict of int
        Of these: rows R of the matrix.
    squares : dict of (R,) float64
        Sums of squared gradients of the outputs.
    lookups : dict of Hessian
        By name: means of g gᵀ over gradients g of the rows that were looked up in a weight.
    counts : dict of (R,) float64
        How often each row was looked up.
    n_labels : int
        Labels drawn so far.
    flows : list of lists of str
        Weights wanted in the order of their first products; those of one list, with the same rows.
    n_products : list of Counter
        How often each was multiplied, batch by batch.
    """

    def __init__(self, names: Collection[str], memory_limit: int | None) -> None:
        self._names, self._limit = set(names), memory_limit
        self._is_fisher = False
        self.hessians: dict[str, Hessian] = {}
        self.columns: dict[str, int] = {}
        self.is_transposed: dict[str, bool] = {}
        self.n_outputs: dict[str, int] = {}
        self.squares: dict[str, Tensor] = {}
        self.lookups: dict[str, Hessian] = {}
        self.counts: dict[str, Tensor] = {}
        self.n_labels = 0
        self.flows: list[list[str]] = []
        self.n_products: list[Counter[str]] = []
        self._rows: Tensor | None = None

    def run(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor],
        batches: Iterable[Any],
        seed: int | None,
    ) -> int:
        """How many batches there were; with a seed, squared gradients are gathered too."""
        self._is_fisher = seed is not None
        rng = torch.Generator().manual_seed(seed or 0)
        n_batches = 0
        with at_rest(model):
            for batch in batches:
                n_batches += 1
                self.n_products.append(Counter())
                with torch.set_grad_enabled(self._is_fisher):
                    with Watch(weights, self.take):
                        output = call(model, batch)
                    if self._is_fisher:
                        self.draw(logits_of(output), rng)
        self._rows = None
        return n_batches

    def take(self, call: Product | Lookup, output: Tensor) -> Tensor:
        """Take in what a call just returned; what the model goes on with."""
        if call.name not in self._names:
            return output
        add: Callable[[Tensor], None]
        if isinstance(call, Product):
            self.add(call)
            self.n_outputs[call.name] = call.of_output(output).shape[-1]
            add = partial(self._add_squares, call)
        else:
            add = partial(self._add_lookups, call)
        if not self._is_fisher:
            return output
        if isinstance(call, Lookup):
            added = call.rows.flatten().bincount(minlength=call.n_rows).double().cpu()
            self.counts[call.name] = self.counts.get(call.name, 0) + added
        with torch.enable_grad():
            if not output.requires_grad:  # the weights have no gradients: it may begin here
                output = output.detach().requires_grad_().clone()
        if output.requires_grad:  # else the model runs under inference_mode
            output.register_hook(add)  # type: ignore[no-untyped-call]
        return output

    def add(self, product: Product) -> None:
        """Add what goes into a product to the weight's Hessian."""
        name, columns = product.name, product.rows.shape[-1]
        if self.is_transposed.setdefault(name, product.is_transposed) != product.is_transposed:
            raise ValueError(
                f"a weight must be multiplied from one side, got both for {name}; leave it out of "
                "names, and round it to nearest"
            )
        if name not in self.columns:
            self._follow(name, product.rows)
            if self._has_room(columns):
                self.hessians[name] = Hessian(columns)
        self.columns[name] = columns
        self.n_products[-1][name] += 1
        if name in self.hessians:
            add_named(self.hessians[name], product.rows, name)

    def draw(self, logits: Tensor, rng: torch.Generator) -> None:
        """Labels from the model's own distribution, and the gradients of their loss."""
        log_probs = logits.flatten(0, -2).float().log_softmax(-1)
        labels = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=rng)
        is_watched = self.columns or self.counts
        if is_watched and not log_probs.requires_grad:
            raise ValueError(
                "logits must have gradients, got none that lead to a weight; see that the model "
                "does not run under no_grad, or calibrate with fisher=False"
            )
        if is_watched:
            loss = -log_probs.gather(1, labels.to(log_probs.device)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        self.n_labels += len(labels)

    def _follow(self, name: str, rows: Tensor) -> None:
        if rows is self._rows:
            self.flows[-1].append(name)
        else:
            self.flows.append([name])
            self._rows = rows

    def _has_room(self, columns: int) -> bool:
        if self._limit is None:
            return True
        held = sum(hessian.n_columns**2 for hessian in self.hessians.values())
        return ITEM * (held + columns**2) <= self._limit

    def _add_squares(self, product: Product, gradient: Tensor) -> None:
        rows = product.of_output(gradient)
        added = rows.reshape(-1, rows.shape[-1]).double().square().sum(0).cpu()
        held = self.squares.get(product.name)
        self.squares[product.name] = added if held is None else held + added

    def _add_lookups(self, lookup: Lookup, gradient: Tensor) -> None:
        name, columns = lookup.name, gradient.shape[-1]
        add_named(self.lookups.setdefault(name, Hessian(columns)), gradient, name)


def add_named(hessian: Hessian, rows: Tensor, name: str) -> None:
    """Add rows to the Hessian of a weight, by whose name an error begins."""
    try:
        hessian.add(rows)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and its weights without gradients; afterwards as it was before."""
    training = [(module, module.training) for module in model.modules()]
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        model.eval()
        for weight, _ in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for module, was in training:
            module.training = was
        for weight, was in weights:
            weight.requires_grad_(was)
