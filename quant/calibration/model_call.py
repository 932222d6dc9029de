"""Call a model with a batch, and find the logits in what it returns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def call(model: nn.Module, batch: Any) -> Any:
    """Output of the model for a batch, on the model's device.

    A batch is one argument, a tuple of positional arguments, or a dict of keyword arguments.
    """
    weight = next(model.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    if isinstance(batch, Mapping):
        return model(**{name: to_device(value, device) for name, value in batch.items()})
    if isinstance(batch, tuple):
        return model(*(to_device(value, device) for value in batch))
    return model(to_device(batch, device))


def to_device(value: Any, device: torch.device) -> Any:
    """A numpy array or tensor as a tensor on the device; any other value unchanged."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    return value.to(device) if isinstance(value, Tensor) else value


def logits_of(output: Any) -> Tensor:
    """Logits (..., V) in the output of a model.

    Raises
    ------
    ValueError
        Unless the output is logits, an object with ``.logits``, or a tuple whose first item is
        logits.
    """
    logits = getattr(output, "logits", output)
    logits = logits[0] if isinstance(logits, tuple) and logits else logits
    if not isinstance(logits, Tensor) or logits.ndim < 2 or not logits.is_floating_point():
        raise ValueError(
            "the model must return logits (..., V), an object with .logits, or a tuple whose first "
            f"item is logits, got {type(output).__name__}; or calibrate with fisher=False"
        )
    return logits


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode, its weights without gradients; restore both on exit."""
    training = [(module, module.training) for module in model.modules()]
    weights = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        model.eval()
        for weight, _ in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for module, was_training in training:
            module.training = was_training
        for weight, required_grad in weights:
            weight.requires_grad_(required_grad)
