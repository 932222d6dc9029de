"""A copy of a model that shares its weights, until they are replaced by values of its own.

So a model and its partly quantized copy take the memory of one model, and of the weights that
differ.
"""

from collections.abc import Collection, Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from quant.calibration.model_state import ModelState, tensors_in


class Replica:
    """A copy of a model; its buffers are its own, its weights those of the model.

    Parameters
    ----------
    model : torch.nn.Module
    changing : collection of str
        Parameters that a forward pass changes.

    Attributes
    ----------
    model : torch.nn.Module
        The copy.
    state : ModelState
        Of the copy.
    """

    def __init__(self, model: nn.Module, changing: Collection[str]) -> None:
        self._originals = dict(model.named_parameters())
        self.model = sharing_copy(model)
        self.state = ModelState(self.model, changing)

    def replace(self, name: str, values: Tensor) -> None:
        """Give a weight of the copy these values, in memory of its own."""
        self.state.set(name, torch.empty_like(self._originals[name].data).copy_(values))

    def share(self, names: Iterable[str]) -> None:
        """Give weights of the copy the values of the model again, in the memory of the model."""
        for name in names:
            self.state.set(name, self._originals[name].data)


def sharing_copy(model: nn.Module) -> nn.Module:
    """A copy of the model whose weights share memory; activations that it kept are detached."""
    memo: dict[int, Any] = {
        id(weight): nn.Parameter(weight.data, weight.requires_grad) for weight in model.parameters()
    }
    for module in model.modules():
        for value in tensors_in(list(vars(module).values())):
            if not value.is_leaf:
                memo[id(value)] = value.detach()
    return deepcopy(model, memo)
