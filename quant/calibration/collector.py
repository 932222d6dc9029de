"""One calibration pass: run batches through a model, and sum statistics of its weights' inputs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quant.calibration.matmul_hooks import EmbeddingLookup, Matmul, MatmulRecorder
from quant.calibration.model_call import call, frozen, logits_of
from quant.numerics.hessian import Hessian

ITEMSIZE = 8  # bytes of an entry of a Hessian


class StatisticsCollector:
    """Statistics of the weights of a model, summed over the batches of one pass.

    Parameters
    ----------
    names : collection of str
        Weights to collect statistics of.
    memory_limit : int, optional
        Most bytes of all Hessians. Once the limit is reached, weights that appear later get no
        Hessian in this pass.

    Attributes
    ----------
    hessians : dict of Hessian
        Hessian of each weight, by name.
    columns : dict of int
        Input size of each weight that was multiplied, with or without a Hessian.
    is_transposed : dict of bool
        Whether a weight that was multiplied is stored (in, out).
    n_outputs : dict of int
        R: output size of each weight that was multiplied.
    squares : dict of (R,) float64
        Sums of squared gradients of the loss in a weight's outputs.
    lookups : dict of Hessian
        Mean of g gᵀ, over the gradients g of the rows that were looked up in a weight.
    counts : dict of (R,) float64
        How often each row of a weight was looked up.
    n_labels : int
        Labels sampled so far.
    input_groups : list of lists of str
        Weights in the order of their first product. Weights of one list multiply the same inputs,
        as query, key and value projections do.
    n_matmuls : list of Counter
        For each batch, how often each weight was multiplied.
    """

    def __init__(self, names: Collection[str], memory_limit: int | None) -> None:
        self._names, self._memory_limit = set(names), memory_limit
        self._has_fisher = False
        self.hessians: dict[str, Hessian] = {}
        self.columns: dict[str, int] = {}
        self.is_transposed: dict[str, bool] = {}
        self.n_outputs: dict[str, int] = {}
        self.squares: dict[str, Tensor] = {}
        self.lookups: dict[str, Hessian] = {}
        self.counts: dict[str, Tensor] = {}
        self.n_labels = 0
        self.input_groups: list[list[str]] = []
        self.n_matmuls: list[Counter[str]] = []
        self._last_rows: Tensor | None = None

    def run(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor],
        batches: Iterable[Any],
        seed: int | None,
    ) -> int:
        """Run all batches and return their number; a seed asks for Fisher information too."""
        self._has_fisher = seed is not None
        rng = torch.Generator().manual_seed(seed or 0)
        n_batches = 0
        with frozen(model):
            for batch in batches:
                n_batches += 1
                self.n_matmuls.append(Counter())
                with torch.set_grad_enabled(self._has_fisher):
                    with MatmulRecorder(weights, self.on_call):
                        output = call(model, batch)
                    if self._has_fisher:
                        self.sample_labels(logits_of(output), rng)
        self._last_rows = None
        return n_batches

    def on_call(self, recorded: Matmul | EmbeddingLookup, output: Tensor) -> Tensor:
        """Add a product or a lookup; return the output, with a gradient hook if needed."""
        if recorded.name not in self._names:
            return output
        on_gradient: Callable[[Tensor], None]
        if isinstance(recorded, Matmul):
            self.add_batch(recorded)
            self.n_outputs[recorded.name] = recorded.to_output_rows(output).shape[-1]
            on_gradient = partial(self._add_squares, recorded)
        else:
            on_gradient = partial(self._add_lookup_gradients, recorded)
        if not self._has_fisher:
            return output
        if isinstance(recorded, EmbeddingLookup):
            counts = recorded.indices.flatten().bincount(minlength=recorded.n_rows).double().cpu()
            self.counts[recorded.name] = self.counts.get(recorded.name, 0) + counts
        with torch.enable_grad():
            if not output.requires_grad:  # the weights are frozen: the graph begins here
                output = output.detach().requires_grad_().clone()
        if output.requires_grad:  # False only under inference_mode
            output.register_hook(on_gradient)  # type: ignore[no-untyped-call]
        return output

    def add_batch(self, matmul: Matmul) -> None:
        """Add the inputs of a product to the Hessian of the weight."""
        name, columns = matmul.name, matmul.rows.shape[-1]
        if self.is_transposed.setdefault(name, matmul.is_transposed) != matmul.is_transposed:
            raise ValueError(
                f"a weight must be multiplied from one side only, got both sides for {name}; leave "
                "it out of names and round it to nearest"
            )
        if name not in self.columns:
            self._assign_input_group(name, matmul.rows)
            if self._has_memory_for(columns):
                self.hessians[name] = Hessian(columns)
        self.columns[name] = columns
        self.n_matmuls[-1][name] += 1
        if name in self.hessians:
            add_rows(self.hessians[name], matmul.rows, name)

    def sample_labels(self, logits: Tensor, rng: torch.Generator) -> None:
        """Sample labels from the model's own distribution; backpropagate their summed loss."""
        log_probs = logits.flatten(0, -2).float().log_softmax(-1)
        labels = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=rng)
        if self.columns or self.counts:
            if not log_probs.requires_grad:
                raise ValueError(
                    "logits must have gradients, got none that reach a weight; check that the "
                    "model does not run under no_grad, or calibrate with fisher=False"
                )
            loss = -log_probs.gather(1, labels.to(log_probs.device)).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        self.n_labels += len(labels)

    def _assign_input_group(self, name: str, rows: Tensor) -> None:
        if rows is self._last_rows:
            self.input_groups[-1].append(name)
        else:
            self.input_groups.append([name])
            self._last_rows = rows

    def _has_memory_for(self, columns: int) -> bool:
        if self._memory_limit is None:
            return True
        n_entries = sum(hessian.n_columns**2 for hessian in self.hessians.values())
        return ITEMSIZE * (n_entries + columns**2) <= self._memory_limit

    def _add_squares(self, matmul: Matmul, gradient: Tensor) -> None:
        rows = matmul.to_output_rows(gradient)
        squares = rows.reshape(-1, rows.shape[-1]).double().square().sum(0).cpu()
        before = self.squares.get(matmul.name)
        self.squares[matmul.name] = squares if before is None else before + squares

    def _add_lookup_gradients(self, lookup: EmbeddingLookup, gradient: Tensor) -> None:
        name, columns = lookup.name, gradient.shape[-1]
        add_rows(self.lookups.setdefault(name, Hessian(columns)), gradient, name)


def add_rows(hessian: Hessian, rows: Tensor, name: str) -> None:
    """Add rows to the Hessian of a weight; an error begins with the weight's name."""
    try:
        hessian.add(rows)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
