"""Call a model with a batch, and find the logits in what it returns."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from quant.calibration.batches import arguments_of


def call(model: nn.Module, batch: Any) -> Any:
    """Output of the model for a batch; see `quant.calibration.batches.arguments_of`."""
    arguments = arguments_of(model, batch)
    return model(*arguments.args, **arguments.kwargs)


class EnoughError(Exception):
    """Raised to leave a forward pass once all that it is for has been recorded."""


class FisherError(ValueError):
    """There can be no Fisher information of this model; the text says why."""


def logits_of(output: Any) -> Tensor:
    """Logits (..., V) in the output of a model.

    Raises
    ------
    FisherError
        Unless the output is logits, an object with ``.logits``, or a tuple whose first item is
        logits.
    """
    logits = getattr(output, "logits", output)
    logits = logits[0] if isinstance(logits, tuple) and logits else logits
    if not isinstance(logits, Tensor) or logits.ndim < 2 or not logits.is_floating_point():
        raise FisherError(
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
