"""Leave a model as it was, whatever its forward pass changes.

Some models change themselves when they run: RWKV rescales weights in place, others fill caches,
count calls in buffers, or keep their last activations. `ModelState` puts all of this back.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quant.calibration.model_call import frozen


class ModelState:
    """What a forward pass of a model may change: weights, buffers and attributes of its modules.

    Parameters
    ----------
    model : torch.nn.Module
    changing : collection of str, optional
        Parameters that a forward pass changes. If absent, all are copied, until the first forward
        pass has shown which it changes.

    Attributes
    ----------
    changed : set of str
        Parameters that a forward pass changed.
    """

    def __init__(self, model: nn.Module, changing: Collection[str] | None = None) -> None:
        self._model = model
        self._modules = [(module, attributes_of(module)) for module in model.modules()]
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self._tensors = parameters | buffers
        self._buffers = buffers.keys()
        self._versions = {name: version(tensor) for name, tensor in self._tensors.items()}
        kept = {*(parameters if changing is None else changing), *buffers}
        self._saved = {name: self._tensors[name].detach().clone() for name in kept}
        self._has_run = changing is not None
        self.changed: set[str] = set(changing or ())

    def restore(self) -> None:
        """Put back what the last forward pass changed."""
        for module, attributes in self._modules:
            restore_attributes(module, attributes)
        moved = {n for n, tensor in self._tensors.items() if version(tensor) != self._versions[n]}
        moved |= self.changed  # also by a write that their versions do not count
        if lost := sorted(moved - self._saved.keys()):
            raise ValueError(
                f"{lost[0]} must not be changed by a later forward pass than the first, got a "
                "change in place; quantize a copy of the model in eval mode"
            )
        with torch.no_grad():
            for name in moved:
                self._tensors[name].copy_(self._saved[name])
                self._versions[name] = version(self._tensors[name])
        self.changed |= moved - self._buffers
        if not self._has_run:
            kept = self.changed | self._buffers
            self._saved = {name: value for name, value in self._saved.items() if name in kept}
            self._has_run = True

    def save(self, name: str) -> None:
        """Save a parameter that is about to be changed."""
        if name not in self._saved:
            self._saved[name] = self._tensors[name].detach().clone()
        self.changed.add(name)

    def set(self, name: str, values: Tensor) -> None:
        """Put a parameter into the memory of these values, which `restore` leaves as they are."""
        parameter = self._tensors[name]
        parameter.data = values
        if name in self._saved:
            self._saved[name] = values.clone()
        self._versions[name] = version(parameter)

    @contextmanager
    def running(self, seed: int, *, has_grad: bool = False) -> Iterator[None]:
        """Run a forward pass in eval mode; what it changed is put back on exit.

        The same seed gives the same random numbers, in any copy of the model.
        """
        with frozen(self._model), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                with torch.set_grad_enabled(has_grad):
                    yield
            finally:
                self.restore()


TABLES = ("_parameters", "_buffers", "_modules")  # attributes of a module that hold its members


def attributes_of(module: nn.Module) -> dict[str, Any]:
    """Attributes of a module, its members in tables of their own."""
    return {
        name: dict(value) if name in TABLES else value
        for name, value in vars(module).items()
        if name != "training"
    }


def restore_attributes(module: nn.Module, attributes: dict[str, Any]) -> None:
    """Put back attributes of a module; those that are new are removed."""
    now = vars(module)
    for name in [name for name in now if name not in attributes and name != "training"]:
        del now[name]
    for name, value in attributes.items():
        if name not in TABLES:
            now[name] = value
        elif any(now[name].get(key) is not member for key, member in value.items()):
            now[name].update(value)


def version(tensor: Tensor) -> int:
    """A number that grows with each change of the tensor in place."""
    return -1 if tensor.is_inference() else tensor._version


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(item)
