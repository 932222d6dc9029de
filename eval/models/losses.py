"""Losses: the logits of a module whose forward pass takes targets and returns a loss."""

import inspect
from typing import Any

# The functions of torch whose first argument is the logits, or their logarithms of probabilities.
OF_LOGITS = ("cross_entropy", "nll_loss")
METHOD = "forward_logits"  # of the modules of Parameter Golf
TARGETS = "targets"  # of nanoGPT: without them it gives the logits of the last position alone


def with_logits(network: Any) -> Any:
    """A module from tokens (B, T) to logits (B, T, V), or the network itself if it is one.

    Parameters
    ----------
    network : torch.nn.Module
        As in Parameter Golf: ``forward(ids, targets)`` returns a loss. Its ``forward_logits(ids)``
        is called if there is one; else the logits are what it gives to ``cross_entropy`` of torch.
        As in nanoGPT: ``forward(ids, targets=None)`` returns (logits, loss). The targets are the
        next ids: logits that depend on them see the future.
    """
    needed, optional = parameters_of(network)
    if len(needed) < 2 and TARGETS not in optional:
        return network
    if len(needed) >= 2 and callable(getattr(network, METHOD, None)):
        return module_of(network, lambda ids: getattr(network, METHOD)(ids))
    if len(needed) >= 2:
        return module_of(network, lambda ids: logits_of_loss(network, ids))
    return module_of(network, lambda ids: all_logits(network, ids))


def parameters_of(network: Any) -> tuple[list[str], list[str]]:
    """Names of the parameters of a forward pass without a default, and of those with one."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(network.forward).parameters.values()
    except (TypeError, ValueError):  # of a builtin, or of a compiled module
        return [], []
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in positional]
    return needed, [p.name for p in parameters if p.default is not p.empty]


def module_of(network: Any, forward: Any) -> Any:
    """A module around a network, with another forward pass; modes and devices go through."""
    import torch

    class WithLogits(torch.nn.Module):
        """Calls the network in another way."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: Any) -> Any:
            """Logits (B, T, V) for ids (B, T)."""
            return forward(ids)

    return WithLogits().train(network.training)


def next_ids(ids: Any) -> Any:
    """The targets (B, T) of ids (B, T): the next ones, and the last one again."""
    import torch

    return torch.cat([ids[:, 1:], ids[:, -1:]], dim=1)


def all_logits(network: Any, ids: Any) -> Any:
    """What the network returns for ids, and for targets too if it gives one position alone."""
    output = network(ids)
    logits = output[0] if isinstance(output, tuple) and output else output
    logits = getattr(logits, "logits", logits)
    is_last = tuple(getattr(logits, "shape", ()))[:2] == (len(ids), 1)
    return network(ids, **{TARGETS: next_ids(ids)}) if is_last and ids.shape[1] > 1 else output


def logits_of_loss(network: Any, ids: Any) -> Any:
    """The logits (B, T, V) that the network returns, or those that it computes its loss from."""
    from torch.overrides import TorchFunctionMode

    taken: list[Any] = []

    class Taker(TorchFunctionMode):
        """Keeps the logits that a loss function of torch is called with."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if getattr(function, "__name__", "") in OF_LOGITS:
                taken.append(args[0] if args else kwargs["input"])
            return function(*args, **kwargs)

    with Taker():
        output = network(ids, next_ids(ids))
    first = output[0] if isinstance(output, tuple) and output else output
    first = getattr(first, "logits", first)
    if getattr(first, "ndim", 0) == 3:
        return first
    if not taken:
        raise ValueError(
            f"a model must give logits for its tokens, got the loss of {type(network).__name__}, "
            f"which no cross_entropy of torch computed; add a method {METHOD}(ids)"
        )
    return joined(taken, *ids.shape)


def joined(parts: list[Any], n_rows: int, length: int) -> Any:
    """Logits (B, T, V) of the parts of a loss: the first that is whole, or all of them."""
    import torch

    flat = [part.transpose(1, 2) if is_channels_first(part, length) else part for part in parts]
    flat = [part.reshape(-1, part.shape[-1]) for part in flat]
    whole = next((part for part in flat if len(part) == n_rows * length), None)
    return (torch.cat(flat) if whole is None else whole).view(n_rows, length, -1)


def is_channels_first(logits: Any, length: int) -> bool:
    """Whether logits are (B, V, T), as `cross_entropy` takes them too."""
    return bool(logits.ndim == 3 and logits.shape[1] != length and logits.shape[2] == length)
