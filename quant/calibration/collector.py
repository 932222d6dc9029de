"""One calibration pass: run batches through a model, and sum statistics of its weights' inputs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from quant.calibration.batches import Arguments, arguments_of
from quant.calibration.matmul_hooks import EmbeddingLookup, Matmul, MatmulRecorder, Piece
from quant.calibration.model_call import EnoughError, FisherError, logits_of
from quant.calibration.model_state import ModelState
from quant.calibration.row_tokens import RowTokens
from quant.calibration.statistics import WeightStatistics, hessian_bytes, select
from quant.numerics.hessian import Hessian, check_rows


class StatisticsCollector:
    """Statistics of the weights of a model, summed over the batches of one pass.

    Parameters
    ----------
    names : collection of str
        Weights to collect statistics of.
    memory_limit : int, optional
        Most bytes of all Hessians. Once the limit is reached, weights that appear later get no
        Hessian in this pass.
    postponed : collection of str
        Weights that get no Hessian in this pass in any case.

    Attributes
    ----------
    weights : dict of WeightStatistics
        Of each weight that was multiplied, by name.
    later : dict of int
        Bytes of the Hessians of weights that had no place under the limit, or were postponed.
    lookups : dict of Hessian
        Mean of g gᵀ, over the gradients g of the rows that were looked up in a weight.
    counts : dict of (R,) float64
        How often each row of a weight was looked up.
    two_sided : set of str
        Weights that were multiplied along different axes; they have no statistics.
    uses : dict of sets of str
        What else the weights were used in; see `MatmulRecorder.uses`.
    looked_up : set of str
        Weights that rows were looked up in.
    n_labels, n_logits, n_positions : int
        Labels sampled so far; rows of logits that the model returned, and positions of the batches.
    input_groups : list of lists of str
        Weights in the order of their first product. Weights of one list multiply the same inputs,
        as query, key and value projections do.
    n_matmuls : list of Counter
        For each batch, how often each weight was multiplied.
    """

    def __init__(
        self, names: Collection[str], memory_limit: int | None, postponed: Collection[str] = ()
    ) -> None:
        self._names, self._memory_limit = set(names), memory_limit
        self._postponed = set(postponed)
        self._n_bytes = 0
        self._without_place: dict[str, set[bytes]] = {}
        self._has_fisher = False
        self.weights: dict[str, WeightStatistics] = {}
        self.later: dict[str, int] = {}
        self.lookups: dict[str, Hessian] = {}
        self.counts: dict[str, Tensor] = {}
        self.two_sided: set[str] = set()
        self.uses: dict[str, set[str]] = {}
        self.looked_up: set[str] = set()
        self.n_labels = self.n_logits = self.n_positions = 0
        self.input_groups: list[list[str]] = []
        self.n_matmuls: list[Counter[str]] = []
        self._n_enough: int | None = None  # products of a batch
        self._is_kept: Tensor | None = None
        self._last_source: Tensor | None = None

    def run(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor],
        batches: Iterable[Any],
        seed: int | None,
        state: ModelState,
        n_matmuls: Sequence[Mapping[str, int]] | None = None,
    ) -> None:
        """Run all batches; a seed asks for Fisher information too.

        A batch is left once its weights were multiplied as often as `n_matmuls` says, if given.
        """
        self._has_fisher = seed is not None
        rng = torch.Generator().manual_seed(seed or 0)
        self._shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        for i, batch in enumerate(batches):
            arguments = arguments_of(model, batch)
            self.n_matmuls.append(Counter())
            if n_matmuls is not None:
                self._n_enough = sum(n_matmuls[i][name] for name in self._names)
                if not self._n_enough:
                    continue
            with state.running(i, has_grad=self._has_fisher):
                self._run_batch(model, weights, arguments, rng)
        self._last_source = None

    def _run_batch(
        self, model: nn.Module, weights: Mapping[str, Tensor], arguments: Arguments, rng: Any
    ) -> None:
        self._is_kept = arguments.is_kept
        tokens = None if arguments.is_kept is None else RowTokens(arguments.n_tokens)
        recorder = MatmulRecorder(weights, self.on_call, tokens)
        try:
            with recorder:
                output = model(*arguments.args, **arguments.kwargs)
        except EnoughError:
            return
        for name, uses in recorder.uses.items():
            self.uses.setdefault(name, set()).update(uses)
        try:
            logits = logits_of(output)
        except FisherError:
            if self._has_fisher:
                raise
            return
        self.n_positions += arguments.n_tokens
        self.n_logits += logits.shape[:-1].numel()
        if self._has_fisher:
            of_logits = None if tokens is None else tokens.of(logits)
            self.sample_labels(select(logits, of_logits, self._is_kept), rng)

    def on_call(self, recorded: Matmul | EmbeddingLookup, output: Tensor) -> Tensor:
        """Add a product or a lookup; return the output, with a gradient hook if needed."""
        name = recorded.name
        if isinstance(recorded, EmbeddingLookup):
            self.looked_up.add(name)
        if name not in self._names:
            return output
        on_gradient: Callable[[Tensor], None]
        if isinstance(recorded, Matmul):
            self.add_batch(recorded)
            if self._n_enough is not None and self.n_matmuls[-1].total() == self._n_enough:
                raise EnoughError
            on_gradient = partial(self._add_squares, recorded)
        else:
            on_gradient = partial(self._add_lookup_gradients, recorded)
        if not self._has_fisher:
            return output
        if isinstance(recorded, EmbeddingLookup):
            indices = self._without_padding(recorded.indices.flatten())
            counts = indices.bincount(minlength=recorded.n_rows).double().cpu()
            self.counts[name] = self.counts.get(name, 0) + counts
        with torch.enable_grad():
            if not output.requires_grad:  # the weights are frozen: the graph begins here
                output = output.detach().requires_grad_().clone()
        if output.requires_grad:  # False only under inference_mode
            output.register_hook(on_gradient)  # type: ignore[no-untyped-call]
        return output

    def add_batch(self, matmul: Matmul) -> None:
        """Add the inputs of a product to the Hessians of the weight."""
        name = matmul.name
        if name not in self.weights:
            n_rows, n_columns = matmul.axes.matrix_shape(self._shapes[name])
            self.weights[name] = WeightStatistics(matmul.axes, n_rows, n_columns)
            self._assign_input_group(matmul)
        statistics = self.weights[name]
        if statistics.axes != matmul.axes:
            self.two_sided.add(name)
        self.n_matmuls[-1][name] += 1
        if name in self.two_sided:
            return
        for piece in matmul.pieces:
            self._add_piece(statistics, piece, name)

    def sample_labels(self, logits: Tensor, rng: torch.Generator) -> None:
        """Sample labels from the model's own distribution; backpropagate their summed loss."""
        log_probs = logits.flatten(0, -2).float().log_softmax(-1)
        labels = torch.multinomial(log_probs.detach().exp().cpu(), 1, generator=rng)
        if self.weights or self.counts:
            if not log_probs.requires_grad:
                raise FisherError(
                    "logits must have gradients, got none that reach a weight; check that the "
                    "model does not run under no_grad, or calibrate with fisher=False"
                )
            loss = -log_probs.gather(1, labels.to(log_probs.device)).sum()
            try:
                loss.backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:  # as of a model that changes its tensors in place
                raise FisherError(
                    f"logits must have gradients, got an error of torch: {str(error)[:80]}...; "
                    "calibrate with fisher=False"
                ) from error
        self.n_labels += len(labels)

    def _add_piece(self, statistics: WeightStatistics, piece: Piece, name: str) -> None:
        rows = select(piece.inputs, piece.tokens, self._is_kept)
        try:
            if self._has_memory_for(name, piece):
                statistics.add(piece.rows, piece.columns, rows)
            else:
                check_rows(rows)  # before the work that needs them
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def _assign_input_group(self, matmul: Matmul) -> None:
        pieces = matmul.pieces
        is_whole = len(pieces) == 1 and pieces[0].columns is None
        if is_whole and matmul.source is self._last_source:
            self.input_groups[-1].append(matmul.name)
            return
        self.input_groups.append([matmul.name])
        self._last_source = matmul.source if is_whole else None

    def _has_memory_for(self, name: str, piece: Piece) -> bool:
        """Whether the Hessian of these rows is kept in this pass."""
        statistics, rows = self.weights[name], piece.rows.tobytes()
        if name not in self.later and rows in statistics.sums:
            return True
        n_bytes = hessian_bytes(statistics.n_columns)
        is_full = self._memory_limit is not None and self._n_bytes + n_bytes > self._memory_limit
        if name in self.later or name in self._postponed or is_full:
            self._n_bytes -= len(statistics.sums) * n_bytes
            seen = self._without_place.setdefault(name, set())
            seen |= {rows, *statistics.sums}
            statistics.sums.clear()
            self.later[name] = len(seen) * n_bytes
            return False
        self._n_bytes += n_bytes
        return True

    def _without_padding(self, rows: Tensor) -> Tensor:
        """Rows (N, ...) of all positions without those of padding; rows of anything else as is."""
        if self._is_kept is None or len(rows) != len(self._is_kept):
            return rows
        return rows[self._is_kept.to(rows.device)]

    def _add_squares(self, matmul: Matmul, gradient: Tensor) -> None:
        squares = self.weights[matmul.name].squares
        for piece in matmul.pieces:
            rows = piece.to_output_rows(gradient)
            sums = rows.reshape(-1, rows.shape[-1]).double().square().sum(0).cpu().numpy()
            squares[piece.rows] += sums

    def _add_lookup_gradients(self, lookup: EmbeddingLookup, gradient: Tensor) -> None:
        name, columns = lookup.name, gradient.shape[-1]
        rows = self._without_padding(gradient.reshape(-1, columns))
        try:
            self.lookups.setdefault(name, Hessian(columns)).add(rows)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
