"""Load dequantized tensors into a model."""

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quant.base.config import QuantizedTensor
from quant.calibration.calibrate import check_module
from quant.models.parameters import state_of

if TYPE_CHECKING:
    from torch import Tensor, nn

# What torch.compile and DistributedDataParallel put before names.
PREFIXES = re.compile(r"^(?:module\.)+|(?<![^.])_orig_mod\.")


class PrefixWarning(UserWarning):
    """Names of a model and of a file differ by prefixes, and were matched without them."""


def load_tensors(
    model: "nn.Module", tensors: Mapping[str, Any], aliases: Mapping[str, str]
) -> None:
    """Copy tensors, dequantized, into a model; see `QuantizedModel.load_into`.

    All checks come first: a model that is refused is as it was.
    """
    import torch

    check_module(model)
    state = state_of(model)
    sources = match_names(state, {name: name for name in tensors} | dict(aliases))
    for name, tensor in state.items():
        shape = shape_of(tensors[sources[name]])
        if shape != tuple(tensor.shape):
            raise ValueError(
                f"{name} must have the shape that was quantized, {shape}, got "
                f"{tuple(tensor.shape)}; load into a model of the same kind"
            )
    in_state = {id(tensor) for tensor in state.values()}
    for name, buffer in model.named_buffers():
        if buffer.is_meta and id(buffer) not in in_state:
            raise ValueError(
                f"{name} must be in memory, got the device meta: it is not part of the state; make "
                "the model on the CPU"
            )
    firsts: dict[int, str] = {}
    for name, tensor in state.items():
        check_fits(name, tensors[sources[name]], tensor.dtype)
        first = firsts.setdefault(id(tensor), name)
        ours, other = (tensors[sources[one]] for one in (first, name))
        if ours is not other and not torch.equal(
            *(fitted(name, dequantized(one), tensor.dtype) for one in (ours, other))
        ):
            raise ValueError(
                f"{name} must be equal to {first}, to which the model ties it, got other values in "
                "the file; load into a model that does not tie them"
            )
    places = places_of(model)
    with torch.no_grad():  # one float tensor at a time: all of them would take the model again
        for name in firsts.values():
            values = fitted(name, dequantized(tensors[sources[name]]), state[name].dtype)
            if state[name].is_meta:
                materialize(state[name], values, places[id(state[name])])
            else:
                state[name].copy_(values)


def match_names(state: Mapping[str, Any], sources: Mapping[str, str]) -> dict[str, str]:
    """Name in the file of each tensor of the model, with or without prefixes."""
    if state.keys() == sources.keys():
        return dict(sources)
    plain_state = {PREFIXES.sub("", name): name for name in state}
    plain_sources = {PREFIXES.sub("", name): source for name, source in sources.items()}
    is_unique = len(plain_state) == len(state) and len(plain_sources) == len(sources)
    if is_unique and plain_state.keys() == plain_sources.keys():
        warnings.warn(
            "names were matched without the prefixes _orig_mod. and module., which only the model "
            "or only the file has",
            PrefixWarning,
            stacklevel=4,
        )
        return {name: plain_sources[plain] for plain, name in plain_state.items()}
    differing = sorted(plain_state.keys() ^ plain_sources.keys())
    raise ValueError(
        "the model must have the tensors that were quantized, got differing "
        f"{', '.join(differing)}; load into a model of the same kind"
    )


def check_fits(name: str, tensor: Any, dtype: Any) -> None:
    """ValueError unless the dtype of the model holds a weight, quantized or not."""
    import torch

    is_quantized = isinstance(tensor, QuantizedTensor)
    kind = getattr(torch, tensor.layout.dtype) if is_quantized else torch.as_tensor(tensor).dtype
    is_wide = kind.is_floating_point and torch.promote_types(kind, dtype) == dtype
    if kind != dtype and not is_wide:
        fitted(name, dequantized(tensor), dtype)


def fitted(name: str, values: "Tensor", dtype: Any) -> "Tensor":
    """The values in the dtype of the model; ValueError if it cannot hold them."""
    is_cut = values.is_floating_point() and not dtype.is_floating_point
    if is_cut or values.is_complex() != dtype.is_complex:
        raise ValueError(
            f"{name} must be of a dtype that holds {values.dtype}, got {dtype}; load into a model "
            "of the same kind"
        )
    if values.dtype == dtype:
        return values
    cast = values.to(dtype)
    if dtype.is_floating_point:
        is_lost = values.double().isfinite() & ~cast.double().isfinite()
        if is_lost.any():
            largest = float(values.abs().max())
            raise ValueError(
                f"{name} must hold weights up to {largest:.4g}, got {dtype}, in which they are "
                "infinite; load into a model of float32 or bfloat16"
            )
    return cast


Place = tuple[dict[str, Any], str]  # the parameters or buffers of a module, and a name


def places_of(model: "nn.Module") -> dict[int, list[Place]]:
    """Where each tensor of a model stands, by its id: tied ones in several places."""
    places: dict[int, list[Place]] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    places.setdefault(id(tensor), []).append((table, name))
    return places


def materialize(old: "Tensor", values: "Tensor", places: list[Place]) -> None:
    """Put values in all places of a tensor on the device meta; ties stay."""
    import torch

    new = values.clone()
    if isinstance(old, torch.nn.Parameter):
        new = torch.nn.Parameter(new, old.requires_grad)
    for table, name in places:
        table[name] = new


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Shape of a weight, quantized or not."""
    return tuple(tensor.layout.shape if isinstance(tensor, QuantizedTensor) else tensor.shape)


def dequantized(tensor: Any) -> "Tensor":
    """A weight, quantized or not, as a torch tensor."""
    import torch

    return torch.as_tensor(tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor)
