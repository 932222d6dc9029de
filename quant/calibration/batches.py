"""Batches as data loaders, data sets and files give them, made into arguments of a model."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from quant.calibration.row_tokens import count_tokens, is_integer

LABELS = ("labels", "label", "targets", "target")
MASKS = ("attention_mask", "mask", "padding_mask")
INPUTS = ("input_ids", "input", "inputs", "tokens", "ids", "idx", "x")
INTEGERS = (torch.int64, torch.int32)


class Arguments(NamedTuple):
    """Arguments of one forward pass.

    Attributes
    ----------
    args, kwargs
        Tensors are on the model's device.
    n_tokens : int
        Positions of the batch.
    is_kept : (n_tokens,) bool, or None
        Which positions are not padding, by an attention mask or by negative labels; None for all.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    n_tokens: int
    is_kept: Tensor | None


def arguments_of(model: nn.Module, batch: Any) -> Arguments:
    """Arguments of the model for a batch.

    A tensor or array is the first argument, a tuple all positional arguments, a dict keyword
    arguments. A list of numbers is a row of tokens, or rows of them. A list of tensors, as a
    DataLoader gives it, is the input and its targets; targets are passed if the model takes them.
    A dict may have further keys, and another name of the input, than the model takes. Integers
    become int64.

    Raises
    ------
    ValueError
        If a list or a dict holds no input of the model.
    """
    names, takes_any = parameters_of(model)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        args, kwargs = named(batch, names, takes_any)
    elif isinstance(batch, tuple):
        args = tuple(batch)
    elif isinstance(batch, list) and any(isinstance(item, Tensor | np.ndarray) for item in batch):
        args = (batch[0],)
        wanted = next((name for name in LABELS if name in names), None)
        if len(batch) > 1 and wanted is not None:
            kwargs = {wanted: batch[1]}
    else:
        args = (batch,)
    device = device_of(model)
    args = tuple(to_tensor(value, device) for value in args)
    kwargs = {name: to_tensor(value, device) for name, value in kwargs.items()}
    given = dict(batch) if isinstance(batch, Mapping) else kwargs
    n_tokens = count_tokens([*args, *kwargs.values()])
    return Arguments(args, kwargs, n_tokens, kept(given, n_tokens))


def named(
    batch: Mapping[str, Any], names: list[str], takes_any: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(positional, keyword) arguments of a dict: those keys that the model takes."""
    if takes_any and not set(names) & set(batch):
        return (), dict(batch)
    kwargs = {
        name: value
        for name, value in batch.items()
        if name in names or (takes_any and not is_text(value))
    }
    first = names[0] if names else None
    if first is not None and first not in batch and not set(INPUTS) & set(kwargs):
        key = next((name for name in INPUTS if name in batch), None)
        if key is None:
            raise ValueError(
                f"a batch must have a key that the model takes, {', '.join(names)}, got "
                f"{', '.join(map(str, batch)) or 'none'}; rename one"
            )
        kwargs.pop(key, None)
        return (batch[key],), kwargs
    return (), kwargs


def parameters_of(model: nn.Module) -> tuple[list[str], bool]:
    """(names of the arguments of the model, whether it takes any keyword)."""
    forward = model.forward
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # as of compiled code
        return [], True
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def kept(given: Mapping[str, Any], n_tokens: int) -> Tensor | None:
    """(n_tokens,) bool: positions that no mask and no label leaves out; None if none does."""
    is_kept = None
    for name, value in given.items():
        if name not in (*MASKS, *LABELS) or isinstance(value, str) or value is None:
            continue
        tensor = to_tensor(value, torch.device("cpu"))
        if not isinstance(tensor, Tensor) or tensor.numel() != n_tokens:
            continue  # a mask of pairs of positions, or one label a row
        counts = (tensor >= 0 if name in LABELS else tensor != 0).flatten()
        is_kept = counts if is_kept is None else is_kept & counts
    return None if is_kept is None or bool(is_kept.all()) else is_kept


def to_tensor(value: Any, device: torch.device) -> Any:
    """A tensor on the device of numbers of any kind; any other value unchanged."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = value.astype(np.int64) if value.dtype.kind in "iu" else value
        value = torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, list) and value and not is_text(value):
        value = rows_of(value)
    if not isinstance(value, Tensor):
        return value
    if is_integer(value) and value.dtype not in INTEGERS:
        value = value.long()
    return value.to(device)


def rows_of(values: list[Any]) -> Any:
    """Tensor of nested lists of numbers, at least (1, T); the list itself if it holds others."""
    if all(isinstance(item, Tensor | np.ndarray) for item in values):
        shapes = {tuple(item.shape) for item in values}
        if len(shapes) != 1:
            return values
        return torch.stack([torch.as_tensor(item) for item in values])
    try:
        tensor = torch.as_tensor(values)
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(values[0], list):
            lengths = sorted({len(row) for row in values})
            raise ValueError(
                f"rows of a batch must have one length, got {lengths[0]}..{lengths[-1]}; give each "
                "row as a batch, or pad them and give an attention_mask"
            ) from error
        return values
    return tensor.unsqueeze(0) if tensor.ndim == 1 else tensor


def is_text(value: Any) -> bool:
    """Whether the value is a text or a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and any(map(is_text, value)))


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter."""
    weight = next(model.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def as_list(batches: Iterable[Any]) -> list[Any]:
    """The batches, read once; a single tensor, array or dict is one batch.

    Raises
    ------
    ValueError
        If there is no batch, or the batches cannot be iterated.
    """
    if isinstance(batches, Tensor | np.ndarray | Mapping):
        return [batches]
    try:
        batches = list(batches)
    except TypeError as error:
        raise ValueError(
            f"batches must be iterable, got {type(batches).__name__}; pass a list of batches"
        ) from error
    if not batches:
        raise ValueError("batches must hold at least one batch, got none; check the iterable")
    return batches
