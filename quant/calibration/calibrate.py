"""Calibrate a model: run batches through it, and collect what its weights are multiplied with.

Inputs are collected from ``F.linear``, all matrix products of torch, ``einsum``, ``grouped_mm``,
attention by ``nn.MultiheadAttention``, and convolutions of one or two dimensions, inside of any
module or outside of all; of whole weights and of slices of them. Products inside of ``nn.LSTM`` or
of compiled code are not seen. Lookups by ``F.embedding`` are collected if Fisher information is
asked for.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from quant.base.config import check_int
from quant.base.memory import parse_bytes
from quant.base.screen import progress_bar
from quant.calibration.calibration import Calibration

if TYPE_CHECKING:
    from torch import nn


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

    check_model(model)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    limit = None if memory_limit is None else parse_bytes(memory_limit, "memory_limit")
    kept = as_list(batches)
    parameters = dict(model.named_parameters())
    chosen = None if names is None else list(names)
    if unknown := [name for name in chosen or () if name not in parameters]:
        raise ValueError(
            f"names must be parameters of the model, got {', '.join(unknown)}; use the first name "
            "of a tied parameter"
        )
    return run_passes(
        model, kept, names=chosen, fisher=fisher, seed=seed, limit=limit, progress=progress
    )


def calibrate_sparingly(
    model: "nn.Module",
    batches: list[Any],
    *,
    memory_limit: int | str | None,
    postponed: Collection[str],
    fisher: bool = False,
    seed: int = 0,
    progress: bool = False,
) -> Calibration:
    """`calibrate`, but weights that are postponed get no Hessian before they are asked for.

    The limit is half the model by default; and then more, if a single weight needs more.
    """
    if memory_limit is None:
        limit = sum(weight.nbytes for weight in model.parameters()) // 2
    else:
        limit = parse_bytes(memory_limit, "memory_limit")
    return run_passes(
        model, batches, fisher=fisher, seed=seed, limit=limit, postponed=postponed,
        is_limit_raised=memory_limit is None, progress=progress,
    )  # fmt: skip


def run_passes(
    model: "nn.Module",
    batches: list[Any],
    *,
    names: list[str] | None = None,
    fisher: bool = False,
    seed: int = 0,
    limit: int | None,
    postponed: Collection[str] = (),
    is_limit_raised: bool = False,
    progress: bool,
) -> Calibration:
    """Run the first pass, and divide the Hessians that it left out into further ones."""
    from quant.calibration.collector import StatisticsCollector
    from quant.calibration.model_state import ModelState
    from quant.calibration.writes import changing_parameters

    weights = {name: weight for name, weight in model.named_parameters() if weight.ndim >= 2}
    chosen = list(weights) if names is None else names
    changing: Collection[str] | None = changing_parameters(model, batches[0])
    n_matmuls: list[Counter[str]] | None = None

    def collect(
        names: Collection[str], seed: int | None = None, postponed: Collection[str] = ()
    ) -> StatisticsCollector:
        nonlocal changing, n_matmuls
        collector = StatisticsCollector(names, limit, postponed)
        state = ModelState(model, changing)
        bar = progress_bar(batches, is_shown=progress, desc="calibrate", unit=" batches")
        collector.run(model, weights, bar, seed, state, n_matmuls)
        changing, n_matmuls = state.changed, n_matmuls or collector.n_matmuls
        return collector

    first = collect(chosen, seed if fisher else None, postponed)
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
    if is_limit_raised:
        limit = max(limit or 0, *later.values(), 1)
    passes.extend(split_into_passes(later, limit or 0))
    return Calibration(
        _first_pass=first,
        _names=in_order,
        _passes=tuple(filter(None, passes)),
        _collect=collect,
        _batches=batches,
        _changing=changing,
        _settings={"fisher": fisher, "seed": seed, "names": names},
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
