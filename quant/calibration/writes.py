"""Find the parameters that a forward pass of a model changes, without a copy of all of them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from quant.calibration.model_call import call
from quant.calibration.model_state import ModelState, tensors_in
from quant.calibration.weight_views import address


def changing_parameters(model: nn.Module, batch: Any) -> set[str] | None:
    """Names of the parameters that a forward pass writes to; the model is left as it was.

    None if they cannot be watched: a parameter has no memory of its own, or the pass fails.
    """
    state, parameters = ModelState(model, ()), dict(model.named_parameters())
    if not all(map(address, parameters.values())):
        return None
    has_failed = False
    with state.running(0):
        try:
            with WriteWatcher(parameters, state):
                call(model, batch)
        except Exception:  # of the model, or of code that takes no watcher: the next pass tells
            has_failed = True
    return None if has_failed else state.changed


class WriteWatcher(TorchDispatchMode):
    """Context manager that lets a `ModelState` save a parameter before it is written to.

    A parameter is known by its memory, so that a write to a view or to ``weight.data`` counts.
    """

    def __init__(self, parameters: Mapping[str, Tensor], state: ModelState) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._state = state
        self._names: dict[int, list[str]] = {}
        for name, parameter in parameters.items():
            self._names.setdefault(address(parameter), []).append(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Save the parameters that the function writes to, and call it."""
        kwargs = kwargs or {}
        for tensor in written(func, args, kwargs):
            for name in self._names.get(address(tensor), ()):
                self._state.save(name)
        return func(*args, **kwargs)


def written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Arguments of a call that the function writes to."""
    for i, name in written_arguments(func):
        yield from tensors_in([kwargs[name] if name in kwargs else args[i : i + 1]])


@cache
def written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """(index, name) of each argument that a function of torch writes to."""
    return tuple(
        (i, argument.name)
        for i, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
