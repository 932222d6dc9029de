"""The layout of compressed-tensors: packed codes and scales, as that library reads them.

It packs the weights of ``nn.Linear``: codes of 4 or 8 bits, in columns of int32, with a scale for
each row, or for each group of columns of a row, and no zero points: transformers does not load
those of packed weights. Weights that transformers merges when it loads a
folder, as those of experts, must be packed one by one. All others are written dequantized.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from eval.quantizer_options import COMPRESSED_TENSORS, DEQUANTIZED
from quant import Config, GptqConfig, QuantizedModel, QuantizedTensor, Recipe, ScalarConfig, pack
from quant.base.matrix import ROWS_FIRST, STACK
from quant.models.loading import fitted, match_names
from quant.models.parameters import aliases_of, state_of
from quant.models.plan import plan
from quant.quantizers.quantize import label
from quant.types import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

PACKED = "pack-quantized"  # the library's name of the layout
WORD = 32  # bits
# A scale may change by so much in the dtype of the model: bfloat16 has 8 bits.
MOST_CHANGE = 1 / 256
# The target by which transformers finds the scheme of weights that it merges.
MERGED = r"re:.*\.experts\..*"


class Scheme(NamedTuple):
    """What tensors of one entry of ``config_groups`` share: one scale a row if no group size."""

    bits: int
    group_size: int | None

    def to_json(self, modules: list[str]) -> dict[str, Any]:
        """The entry of these modules."""
        weights = {
            "num_bits": self.bits,
            "type": "int",
            "symmetric": True,
            "strategy": "group" if self.group_size else "channel",
            "group_size": self.group_size,
            "dynamic": False,
        }
        others = {"input_activations": None, "output_activations": None}
        return {"format": PACKED, "targets": modules, "weights": weights, **others}


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedWeights:
    """The weights of a model that compressed-tensors packs.

    Attributes
    ----------
    tensors : dict of dict of torch tensors
        By the name of the weight: what is written in its place, by name.
    config : dict or None
        ``quantization_config``; None if no weight is packed.
    dequantized : tuple of str
        Quantized weights that the library does not pack.
    """

    tensors: "dict[str, dict[str, Tensor]]"
    config: dict[str, Any] | None
    dequantized: tuple[str, ...]

    def state(self, network: "nn.Module") -> "dict[str, Tensor]":
        """The state of the model, with the packed tensors in the place of the weights."""
        state: dict[str, Tensor] = {}
        for name, tensor in network.state_dict().items():
            state |= self.tensors.get(name, {name: tensor})
        return state


def pack_weights(network: Any, quantized: QuantizedModel) -> PackedWeights:
    """Pack the weights of a model of Hugging Face for compressed-tensors.

    Parameters
    ----------
    network : PreTrainedModel
        The model that was quantized, in the dtype that is written.
    quantized : QuantizedModel

    Raises
    ------
    ValueError
        If a weight that would be packed has levels that the layout does not hold, or scales that
        the dtype does not.
    """
    state = state_of(network)
    names = {name: name for name in quantized.tensors} | quantized.aliases
    sources = match_names(state, names)
    modules, merged = linear_modules(network), merged_weights(network)
    tensors: dict[str, dict[str, Tensor]] = {}
    targets: dict[Scheme, list[str]] = {}
    dequantized, kept = [], []
    for name in state:
        tensor = quantized.tensors[sources[name]]
        if not isinstance(tensor, QuantizedTensor):
            kept += [name] if name in merged else []
        elif name in modules or name in merged:
            check_levels(name, tensor.config, tensor.layout.shape)
            if tensor.layout.axes not in (ROWS_FIRST, STACK):
                raise ValueError(refusal(name, "levels along another axis"))
            scheme, parts = pack_tensor(tensor)
            parts["scale"] = fitted_scales(name, parts["scale"], network.dtype)
            if name in merged:
                tensors[name] = split(network, name, parts)
            else:
                tensors[name] = {f"{name}_{end}": part for end, part in parts.items()}
            target = MERGED if name in merged else modules[name]
            group = targets.setdefault(scheme, [])
            group += [] if target in group else [target]
        else:
            dequantized.append(name)
    check_merged(targets, kept)
    config = make_config(targets, all_linear(network)) if targets else None
    return PackedWeights(tensors=tensors, config=config, dequantized=tuple(dequantized))


def check_recipe(network: Any, recipe: Recipe) -> None:
    """Raise ValueError if a recipe makes levels of a weight that the layout does not hold."""
    modules, merged = linear_modules(network), merged_weights(network)
    for job in plan(network, recipe, is_final=False)[0]:
        if isinstance(job.config, Config) and (job.name in modules or job.name in merged):
            shape = tuple(job.weight.shape)
            check_levels(job.name, job.config, shape)


def check_merged(targets: dict[Scheme, list[str]], kept: list[str]) -> None:
    """Raise ValueError unless all weights that transformers merges are packed in one way."""
    n_schemes = sum(MERGED in modules for modules in targets.values())
    if targets and (n_schemes > 1 or kept):
        got = f"{kept[0]} not quantized" if kept else f"{n_schemes} ways"
        raise ValueError(
            "compressed-tensors must have all experts quantized in the same way, got "
            f"{got}; give all of them one quantizer, or export them {DEQUANTIZED}"
        )


def all_linear(network: "nn.Module") -> list[str]:
    """Names of all modules that compressed-tensors would pack."""
    from torch import nn

    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]


def linear_modules(network: "nn.Module") -> dict[str, str]:
    """Module of each weight that is packed, by the weight's name.

    The weight is that of an ``nn.Linear`` itself, not of a subclass, which may use it in ways of
    its own, and it is tied to no other.
    """
    from torch import nn

    aliases = aliases_of(state_of(network))
    tied = {*aliases, *aliases.values()}
    names = {
        f"{name}.weight": name
        for name, module in network.named_modules()
        if type(module) is nn.Linear and name
    }
    return {name: module for name, module in names.items() if name not in tied}


def merged_weights(network: Any) -> set[str]:
    """Names of weights that transformers merges from several of a folder, as those of experts."""
    import torch

    names = set()
    for name, tensor in state_of(network).items():
        if tensor.ndim > 1:
            empty = torch.empty(tensor.shape, device="meta")
            parts = in_folder(network, name, empty)
            is_split = len(parts) > 1 or any(part.shape != empty.shape for part in parts.values())
            if is_split and all(part.endswith(".weight") for part in parts):
                names.add(name)
    return names


def in_folder(network: Any, name: str, tensor: "Tensor") -> "dict[str, Tensor]":
    """The tensors of a folder that a tensor of the model is saved as, by name."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before transformers 5, which merges nothing
        return {name: tensor}
    parts: dict[str, Tensor] = revert_weight_conversion(network, {name: tensor})
    return parts


def split(network: Any, name: str, parts: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The packed tensors of a merged weight, as those of each weight of a folder."""
    import torch

    leading, columns = parts["shape"].tolist()[:-1], parts["shape"].tolist()[-1]
    written: dict[str, Tensor] = {}
    for end in ("packed", "scale"):
        stack = parts[end].reshape(*leading, -1)
        for weight, part in in_folder(network, name, stack).items():
            if part.ndim != 2 or part.shape[-1] != stack.shape[-1]:
                raise ValueError(refusal(name, f"parts of shape {tuple(part.shape)}"))
            written[f"{weight}_{end}"] = part.clone()
            written[f"{weight}_shape"] = torch.tensor([len(part), columns])
    return written


def check_levels(name: str, config: Config, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the layout holds the levels that a quantizer makes of a weight."""
    inner = config.inner if isinstance(config, GptqConfig) else config
    if not isinstance(inner, ScalarConfig) or inner.per == "column" or not inner.symmetric:
        raise ValueError(refusal(name, label(config)))
    if isinstance(config, GptqConfig) and config.has_order:
        raise ValueError(refusal(name, f"groups in the order of GPTQ ({label(config)})"))
    size = inner.columns_per_scale(shape[-1])
    if shape[-1] % size:
        raise ValueError(refusal(name, f"groups of {size} in {shape[-1]} columns"))


def refusal(name: str, got: str) -> str:
    """The error of levels that the layout does not hold."""
    return (
        "compressed-tensors must have even symmetric levels with a scale for each tensor, row, or "
        f"group that divides the columns, got {got} for {name}; quantize it otherwise, "
        f"as with --rule {name}=int8, or export it {DEQUANTIZED}"
    )


def fitted_scales(name: str, scales: "Tensor", dtype: Any) -> "Tensor":
    """The scales in the dtype of the model, in which they are used; ValueError if it lacks them."""
    cast = fitted(name, scales, dtype)
    is_lost = (cast.double() - scales.double()).abs() > MOST_CHANGE * scales.double()
    if is_lost.any():
        least = float(scales[is_lost].min())
        raise ValueError(
            f"{name} must have scales that the dtype of the model holds, got {least:.4g} with "
            f"{dtype}; export it in float32 or bfloat16"
        )
    return cast


def pack_tensor(tensor: QuantizedTensor) -> "tuple[Scheme, dict[str, Tensor]]":
    """(scheme, packed tensors by the ends of their names) of a quantized weight (..., C)."""
    import torch

    config: Any = tensor.config
    inner: Any = config.inner if isinstance(config, GptqConfig) else config
    rows, columns = tensor.layout.matrix_shape
    bits = 4 if inner.bits <= 4 else 8
    # The library stores codes with half the range added.
    unsigned = (tensor.codes.astype(np.int16) + (1 << (bits - 1))).astype(np.uint8)
    scales = tensor.arrays["scales"]
    parts = {
        "packed": pack_rows(unsigned, bits),
        "scale": np.array(np.broadcast_to(scales, (rows, scales.shape[1]))),
        "shape": np.array(tensor.layout.shape, np.int64),
    }
    group_size = inner.columns_per_scale(columns) if inner.per == "group" else None
    return Scheme(bits, group_size), {end: torch.from_numpy(part) for end, part in parts.items()}


def pack_rows(codes: Array, bits: int) -> Array:
    """Codes (R, C) uint8 as int32 (R, ceil(C * bits / 32)); the first is in the lowest bits."""
    rows, columns = codes.shape
    rest = -columns % (WORD // bits)
    padded = np.pad(codes, ((0, 0), (0, rest)))
    words: Array = pack(padded, bits).view("<i4").astype(np.int32).reshape(rows, -1)
    return words


def make_config(targets: dict[Scheme, list[str]], linear: list[str]) -> dict[str, Any]:
    """``quantization_config``: the modules of each scheme by their names; others are ignored."""
    packed = {module for modules in targets.values() for module in modules}
    return {
        "quant_method": COMPRESSED_TENSORS,
        "format": PACKED,
        "quantization_status": "compressed",
        "config_groups": {
            f"group_{i}": scheme.to_json(modules)
            for i, (scheme, modules) in enumerate(targets.items())
        },
        "ignore": [name for name in linear if name not in packed],
    }
