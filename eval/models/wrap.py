"""wrap: any callable from tokens to logits as a `Model`."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from eval.models.behaviour import name_of
from eval.models.network_name import check_weights, name_network
from eval.models.tensors import is_module
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from eval.types import Tokens
from ngrammix.checks import MAX_VOCAB_SIZE

CallContext = Callable[[], AbstractContextManager[Any]]
KEEP = "logits_to_keep"  # of transformers: the number of last positions with logits


@dataclass(frozen=True, eq=False, kw_only=True)
class WrappedModel:
    """A callable from tokens (B, T) to logits (B, T, V) with its metadata; see `wrap`.

    Attributes
    ----------
    name : str
        Name in the signature, with a hash of what the network computes with.
    vocab_size, context : int
        V, and the largest T of `logits`.
    tokenizer : Tokenizer
        The tokenizer of the model.
    network : callable
        The wrapped callable.
    device : Any
        The torch device of its input.
    keeps_rows : bool
        Whether the network can compute the logits of the last positions alone.
    call_context : callable
        Makes the context manager around each call of the network.
    """

    name: str
    vocab_size: int
    context: int
    tokenizer: Tokenizer
    network: Any
    device: Any = "cpu"
    keeps_rows: bool = False
    call_context: CallContext = nullcontext

    def logits(self, tokens: Tokens, n_last: int | None = None) -> Any:
        """Logits (B, T, V) for tokens (B, T), as the network returns them.

        With `n_last`, which needs `keeps_rows`, those of the last positions: (B, n_last, V).
        ValueError if T exceeds the context, or the shape of the logits is wrong.
        """
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context:
            raise ValueError(
                f"tokens must be (B, T) with 1 <= T <= {self.context}, got shape "
                f"{tokens.shape} for {self.name}; cut the text into windows"
            )
        options = {} if n_last is None else {KEEP: n_last}
        with self.call_context():
            logits = call(self.network, tokens, self.device, **options)
        expected = (*tokens.shape, self.vocab_size)
        if n_last is not None and shape_of(logits) == (len(tokens), n_last, self.vocab_size):
            return logits
        if shape_of(logits) != expected:
            raise ValueError(
                f"logits must be (B, T, V) = {expected}, got {describe(logits)} from "
                f"{self.name}; return the logits of every position and of the whole vocabulary"
            )
        return logits if n_last is None else logits[:, -n_last:]


def wrap(
    network: Any,
    *,
    context: int,
    tokenizer: Any,
    vocab_size: int | None = None,
    name: str | None = None,
    device: Any = None,
) -> WrappedModel:
    """A `Model` of any callable from tokens (B, T) to logits (B, T, V).

    The callable gets a torch int64 tensor, under ``torch.no_grad``; a module is set to eval mode
    first. On the CPU, ``numpy.asarray`` of the tensor makes no copy. The callable may return a
    tensor, an array, an object with ``.logits``, or a tuple such as (logits, loss).

    If it has a parameter ``logits_to_keep``, as in transformers, it is told how many of the last
    positions are needed: the logits of the others, (B, T, V) in all, are the most memory that
    scoring takes.

    Parameters
    ----------
    network : callable
        Row t of its logits is for token t + 1, and depends on tokens 0..t only.
    context : int >= 1
        Largest T.
    tokenizer : Tokenizer, path, object or None
        See `load_tokenizer`. None if the data are tokens with a side-car file.
    vocab_size : int, optional
        V. Default: the size of the logits of one token.
    name : str, optional
        Name in the signature, before 8 hex digits of the hash of what the network computes with:
        weights, buffers, config, attributes and code. Default: that of the function or class.
    device : optional
        Device of its input. Default: that of the first parameter of a module, else the CPU.

    Raises
    ------
    ValueError
        If the network is not callable or has weights that are NaN or not loaded, the context is out
        of range, the logits have the wrong shape, or the tokenizer has ids beyond V.
    """
    label = name or name_of(network)
    if not callable(network):
        raise ValueError(
            f"a model must be callable, got {type(network).__name__} as {label}; "
            "pass a module, or a function from tokens to logits"
        )
    if is_module(network):
        check_weights(network, label)
    full_name = name_network(network, label)  # before its first call, which may change it
    model = wrap_named(
        network,
        context=context,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        name=label,
        device=device,
    )
    return replace(model, name=full_name)


def wrap_named(
    network: Any,
    *,
    context: int,
    tokenizer: Any,
    vocab_size: int | None = None,
    name: str,
    device: Any = None,
    call_context: CallContext = nullcontext,
) -> WrappedModel:
    """`wrap` of a callable under a name that is already whole.

    `call_context` makes the context manager around each call of the network, such as one that
    translates its errors.
    """
    context = check_context(context, name)
    device = device or device_of(network)
    if vocab_size is None:
        logits = call(network, np.zeros((1, 1), np.int64), device)
        shape = shape_of(logits)
        if len(shape) != 3 or shape[:2] != (1, 1) or not 1 <= shape[2] <= MAX_VOCAB_SIZE:
            raise ValueError(
                f"logits must be (B, T, V) = (1, 1, V), got {describe(logits)} from {name}; "
                "return the logits of every position and of the whole vocabulary"
            )
        vocab_size = shape[2]
    if tokenizer is None:
        tokenizer = SideCarTokenizer(vocab_size)
    return WrappedModel(
        name=name,
        vocab_size=vocab_size,
        context=context,
        tokenizer=load_tokenizer(tokenizer, vocab_size=vocab_size),
        network=network,
        device=device,
        keeps_rows=has_parameter(network, KEEP),
        call_context=call_context,
    )


def has_parameter(network: Any, name: str) -> bool:
    """Whether a callable, or the forward pass of a module, has a parameter of this name."""
    function = network.forward if is_module(network) else network
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin
        return False


def check_context(context: object, name: str) -> int:
    """Return `context` as int, or raise ValueError unless it is an integer >= 1."""
    is_integer = isinstance(context, int | np.integer) and not isinstance(context, bool)
    if not is_integer or context < 1:  # type: ignore[operator]
        raise ValueError(
            f"context must be an integer >= 1, got {context!r} for {name}; "
            "pass the tokens that the model reads at once (--context)"
        )
    return int(context)  # type: ignore[call-overload,no-any-return]


def call(network: Any, tokens: Tokens, device: Any, **options: Any) -> Any:
    """The logits of the network for tokens (B, T), taken from whatever it returns.

    The options are keyword arguments of the network.
    """
    import torch

    if isinstance(network, torch.nn.Module) and network.training:
        network.eval()
    # Not inference_mode: a module could not train with the tensors that it keeps from such a call.
    with torch.no_grad():
        output = network(torch.from_numpy(np.ascontiguousarray(tokens)).to(device), **options)
    if isinstance(output, tuple) and output and not hasattr(output, "logits"):
        return output[0]
    return getattr(output, "logits", output)


def shape_of(logits: Any) -> tuple[int, ...]:
    """Shape of an array or tensor; () for other objects."""
    return tuple(getattr(logits, "shape", ()))


def describe(logits: Any) -> str:
    """The shape or the type of an object, for an error text."""
    return f"shape {shape_of(logits)}" if hasattr(logits, "shape") else type(logits).__name__


def device_of(network: Any) -> Any:
    """Device of the first parameter of a module; the CPU for other objects."""
    import torch

    parameter = next(iter(network.parameters()), None) if is_module(network) else None
    return torch.device("cpu") if parameter is None else parameter.device
