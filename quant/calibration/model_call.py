"""Models as callers see them: a batch in, logits out, whatever they are wrapped in."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def call(model: nn.Module, batch: Any) -> Any:
    """What the model returns for a batch: one argument, a tuple of them, or a dict by name."""
    weight = next(model.parameters(), None)
    device = torch.device("cpu") if weight is None else weight.device
    if isinstance(batch, Mapping):
        return model(**{name: moved(value, device) for name, value in batch.items()})
    if isinstance(batch, tuple):
        return model(*(moved(value, device) for value in batch))
    return model(moved(batch, device))


def moved(value: Any, device: torch.device) -> Any:
    """An array or a tensor as a tensor where the model is; else what it was."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    return value.to(device) if isinstance(value, Tensor) else value


def logits_of(output: Any) -> Tensor:
    """Logits (..., V) of what a model returned.

    ValueError unless it is logits, an object with ``.logits``, or a tuple that begins with them.
    """
    found = getattr(output, "logits", output)
    found = found[0] if isinstance(found, tuple) and found else found
    if not isinstance(found, Tensor) or found.ndim < 2 or not found.is_floating_point():
        raise ValueError(
            "a model must return logits (..., V), an object with .logits or a tuple that begins "
            f"with them, got {type(output).__name__}; or calibrate with fisher=False"
        )
    return found
