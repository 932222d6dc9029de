"""WrappedModel: any callable from tokens to logits as a model to score."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.tokenizers.base import Tokenizer, check_vocabulary
from eval.tokenizers.side_car import SideCarTokenizer
from eval.types import Tokens
from ngrammix.checks import MAX_VOCAB_SIZE


@dataclass(frozen=True, eq=False, kw_only=True)
class WrappedModel:
    """A callable (B, T) -> (B, T, V), and what the workbench must know of it; `wrap` makes one.

    Attributes
    ----------
    name : str
        For the signature, with a hash of the weights where there are any.
    vocab_size, context : int
        V; the most tokens that `logits` takes at once.
    tokenizer : Tokenizer
        Of the text.
    network : callable
        What was wrapped.
    device : Any
        Where its input must be, for torch.
    """

    name: str
    vocab_size: int
    context: int
    tokenizer: Tokenizer
    network: Any
    device: Any = "cpu"

    def logits(self, tokens: Tokens) -> Any:
        """Logits (B, T, V), of the kind that comes, of the token after each of tokens (B, T).

        ValueError if there are more tokens than the context, or the shape is another.
        """
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.context:
            raise ValueError(
                f"tokens must be (B, T) with 1 <= T <= {self.context}, got shape "
                f"{tokens.shape} for {self.name}; cut the text into windows"
            )
        logits = call(self.network, tokens, self.device)
        expected = (*tokens.shape, self.vocab_size)
        if shape_of(logits) != expected:
            raise ValueError(
                f"logits must be (B, T, V) = {expected}, got {describe(logits)} from "
                f"{self.name}; return those of every position and of the whole vocabulary"
            )
        return logits


def wrap(
    network: Any,
    *,
    context: int,
    tokenizer: Tokenizer | None,
    vocab_size: int | None = None,
    name: str | None = None,
    device: Any = None,
) -> WrappedModel:
    """Any callable from tokens (B, T) to logits (B, T, V) as a model.

    It is called with a torch int64 tensor, which ``numpy.asarray`` takes as it is where it lies on
    the CPU, under ``torch.no_grad``; a module is put in eval mode before. What it returns may also
    be an object with ``.logits``, or a tuple that begins with them, such as (logits, loss).

    Parameters
    ----------
    network : callable
        Row t of its logits, from tokens 0..t alone, is for token t + 1.
    context : int >= 1
        The most tokens that it takes at once.
    tokenizer : Tokenizer or None
        Of the text; None where the data are tokens whose bytes are known.
    vocab_size : int, optional
        V. Default: what it returns for one token.
    name : str, optional
        For the signature. Default: its own, with 8 digits of a hash of a module's weights.
    device : optional
        Where its input must be. Default: where a module's first parameter is, else the CPU.

    Raises
    ------
    ValueError
        If it is no callable, the context is out of range, what it returns are no logits, or the
        tokenizer has ids beyond V.
    """
    name = name or name_network(network)
    if not callable(network):
        raise ValueError(
            f"a model must be callable, got {type(network).__name__} as {name}; "
            "give a module, or a function from tokens to logits"
        )
    context = check_context(context, name)
    device = device or device_of(network)
    if vocab_size is None:
        logits = call(network, np.zeros((1, 1), np.int64), device)
        shape = shape_of(logits)
        if len(shape) != 3 or shape[:2] != (1, 1) or not 1 <= shape[2] <= MAX_VOCAB_SIZE:
            raise ValueError(
                f"logits must be (B, T, V) = (1, 1, V), got {describe(logits)} from {name}; "
                "return those of every position and of the whole vocabulary"
            )
        vocab_size = shape[2]
    tokenizer = SideCarTokenizer(vocab_size) if tokenizer is None else tokenizer
    check_vocabulary(tokenizer, vocab_size)
    return WrappedModel(
        name=name,
        vocab_size=vocab_size,
        context=context,
        tokenizer=tokenizer,
        network=network,
        device=device,
    )


def check_context(context: object, name: str) -> int:
    """Return `context` as int, or raise ValueError unless it is an integer >= 1."""
    is_integer = isinstance(context, int | np.integer) and not isinstance(context, bool)
    if not is_integer or context < 1:  # type: ignore[operator]
        raise ValueError(
            f"context must be an integer >= 1, got {context!r} for {name}; "
            "it is the most tokens that the model takes at once (--context)"
        )
    return int(context)  # type: ignore[call-overload,no-any-return]


def call(network: Any, tokens: Tokens, device: Any) -> Any:
    """What the network says of tokens (B, T): its logits, whatever they come in."""
    import torch

    if isinstance(network, torch.nn.Module) and network.training:
        network.eval()
    # Not inference_mode: what a module keeps from such a call it cannot train with later.
    with torch.no_grad():
        output = network(torch.from_numpy(np.ascontiguousarray(tokens)).to(device))
    if isinstance(output, tuple) and output and not hasattr(output, "logits"):
        return output[0]
    return getattr(output, "logits", output)


def shape_of(logits: Any) -> tuple[int, ...]:
    """Shape of an array or tensor; empty for anything else."""
    return tuple(getattr(logits, "shape", ()))


def describe(logits: Any) -> str:
    """What came instead of logits, in words."""
    return f"shape {shape_of(logits)}" if hasattr(logits, "shape") else type(logits).__name__


def device_of(network: Any) -> Any:
    """Where the first parameter of a module is; the CPU for anything else."""
    import torch

    parameter = next(iter(network.parameters()), None) if is_module(network) else None
    return torch.device("cpu") if parameter is None else parameter.device


def is_module(network: Any) -> bool:
    """Whether it is a module of torch."""
    import torch

    return isinstance(network, torch.nn.Module)


def name_network(network: Any) -> str:
    """Name of a function or class; for a module with 8 digits of a hash of its weights."""
    name = getattr(network, "__qualname__", type(network).__qualname__)
    if not is_module(network):
        return str(name)
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return f"{name}-{digest.hexdigest()[:8]}"
