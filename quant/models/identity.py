"""All that moves the result of `quantize_model`, as hashes: what a checkpoint belongs to."""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ngrammix.auditing.environment import versions
from quant.models.parameters import state_of
from quant.models.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn


def conditions_of(
    model: "nn.Module", recipe: Recipe, batches: Iterable[Any] | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Versions, hardware, hashes of the model, the recipe and the calibration batches; as JSON.

    The first that differs explains the others. The settings are ``Calibration.settings``.
    """
    import torch

    parameter = next(model.parameters(), None)
    device = "cpu" if parameter is None else parameter.device.type
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    rules = json.dumps(recipe.to_json(), sort_keys=True)
    return {
        "versions": versions(),
        "device": device,
        "hardware": torch.cuda.get_device_name(device) if device == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "recipe": recipe.name,
        "rules of the recipe": hash_of(rules),
        "model": f"{type(model).__qualname__} {hash_of(state_of(model))}",
        "calibration batches": None if batches is None else hash_of(list(batches)),
        "Fisher information": settings["fisher"],
        "seed": settings.get("seed", 0) if settings["fisher"] else None,
        "names of calibrate": settings.get("names"),
    }


def hash_of(value: Any) -> str:
    """16 hex digits of the hash of tensors, arrays and plain values in dicts, lists and tuples."""
    digest = hashlib.sha256()
    add(digest, value)
    return digest.hexdigest()[:16]


def add(digest: Any, value: Any) -> None:
    """Hash a value with its type, so that different values have different bytes."""
    import torch

    if isinstance(value, Mapping):
        items: Iterable[Any] = [part for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple):
        items = value
    else:
        items = ()
    if isinstance(value, torch.Tensor):
        start = f"tensor {value.dtype} {tuple(value.shape)}"
        content: Any = bytes_of(value)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        start, content = f"array {value.dtype} {value.shape}", np.ascontiguousarray(value).data
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        start, content = type(value).__name__, repr(value).encode()
    else:  # of other objects, no more than the type can be told
        start, content = f"{type(value).__qualname__} {len(list(items))}", b""
    digest.update(f"{start} {len(memoryview(content).cast('B'))}\0".encode())
    digest.update(content)
    for item in items:
        add(digest, item)


def bytes_of(tensor: "Tensor") -> Any:
    """Bytes of a tensor in memory order of its indices."""
    import torch

    values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().flatten()
    return values.view(torch.uint8).numpy().data
