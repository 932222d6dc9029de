"""The role of each parameter of a model, the names of its tensors, and which axes are rows."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from quant.base.matrix import MATRIX, ROWS_FIRST, TRANSPOSED, Axes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quant.calibration.calibration import Calibration

ROLES = ("matrix", "embedding", "head", "vector", "elementwise")
HEADS = ("lm_head", "head", "output", "embed_out", "unembed")
MIN_SIDE = 16  # of a matrix that no module is known to multiply with: control tensors are flat
# Names of parameters that scale, shift, mix or gate.
CONTROL = re.compile(
    r"bias|(?:^|_)a_log|_log$|mix|skip|gain|gamma|beta|alpha|lambda|scale|decay|norm|time_|smear"
    r"|temperature|shift|(?:^|_)gate$|gates?$|pos(?:ition)?_?emb"
)


def roles_of(model: "nn.Module", calibration: "Calibration | None" = None) -> dict[str, str]:
    """Role of each parameter by name, in the model's order; tied parameters by their first name.

    - "vector": at most one dimension is longer than 1.
    - "embedding": the weight of an ``nn.Embedding``, tied to the head or not.
    - "head": the weight of ``model.get_output_embeddings()``, or of a module whose name is in
      `HEADS` and that is no part of a numbered layer.
    - "elementwise": mixes, gates, shifts or scales, entry by entry. With a calibration, a parameter
      that no module is known to multiply with, and that was used elementwise only; without, one
      with such a name, or with a side shorter than `MIN_SIDE`.
    - "matrix": any other parameter.
    """
    from torch import nn

    modules = dict(model.named_modules())
    embeddings = {
        id(module.weight)
        for module in modules.values()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    }
    heads = {
        id(getattr(module, "weight", None))
        for name, module in modules.items()
        if (path := name.split("."))[-1] in HEADS and not any(part.isdigit() for part in path)
    }
    get_head = getattr(model, "get_output_embeddings", None)
    if callable(get_head):
        heads.add(id(getattr(get_head(), "weight", None)))
    known = multiplied(model)

    def role(name: str, weight: "Tensor") -> str:
        if sum(n > 1 for n in weight.shape) <= 1:
            return "vector"
        if id(weight) in embeddings:
            return "embedding"
        if id(weight) in heads:
            return "head"
        is_elementwise = id(weight) not in known and acts_elementwise(name, weight, calibration)
        return "elementwise" if is_elementwise else "matrix"

    return {name: role(name, weight) for name, weight in model.named_parameters()}


def multiplied(model: "nn.Module") -> set[int]:
    """Ids of the weights of modules that are known to multiply with them."""
    from torch import nn

    kinds = (
        nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase,
        nn.MultiheadAttention, nn.utils.parametrize.ParametrizationList,
    )  # fmt: skip
    return {
        id(weight)
        for module in model.modules()
        if isinstance(module, kinds) or is_conv1d(module)
        for name, weight in module.named_parameters(recurse=False)
        if "bias" not in name
    }


def acts_elementwise(name: str, weight: "Tensor", calibration: "Calibration | None") -> bool:
    """Whether a parameter that no known module multiplies with acts entry by entry."""
    if calibration is not None:
        if name in calibration or name in calibration.two_sided or name in calibration.looked_up:
            return False
        uses = calibration.uses.get(name)
        if uses is not None:
            return uses == {"elementwise"}
    leaf = name.rpartition(".")[2]
    if CONTROL.search(leaf.lower()):
        return True
    sides = [n for n in weight.shape if n > 1]
    return leaf != "weight" and len(sides) == MATRIX and min(sides) < MIN_SIDE


def axes_of(model: "nn.Module") -> dict[str, Axes]:
    """Which axes of each parameter are rows, by the module that owns it.

    A parameter of three or more axes is a stack of matrices (..., out, in), or (..., in, out) if
    its module has ``is_transposed``, unless its module is a convolution.
    """
    from torch import nn

    def axes(module: nn.Module, weight: "Tensor") -> Axes:
        if is_conv1d(module):
            return TRANSPOSED
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            return TRANSPOSED if module.groups == 1 else Axes((0, 2), module.groups)
        is_kernel = "conv" in type(module).__name__.lower()
        if weight.ndim <= MATRIX or is_kernel:
            return ROWS_FIRST
        leading = tuple(range(weight.ndim - MATRIX))
        is_transposed = getattr(module, "is_transposed", False) is True
        return Axes((*leading, weight.ndim - 1 if is_transposed else weight.ndim - MATRIX))

    return {
        f"{prefix}.{name}" if prefix else name: axes(module, weight)
        for prefix, module in model.named_modules()
        for name, weight in module.named_parameters(recurse=False)
    }


def is_conv1d(module: "nn.Module") -> bool:
    """Whether the module is Hugging Face's ``Conv1D``, whose weight is (in, out)."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def state_of(model: "nn.Module") -> "dict[str, Tensor]":
    """Tensors of the model's state dict, not copies; a tied tensor appears by each of its names."""
    from torch import Tensor

    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def aliases_of(state: "Mapping[str, Tensor]") -> dict[str, str]:
    """First name of each tied tensor, by its further names."""
    first_names: dict[int, str] = {}
    for name, tensor in state.items():
        first_names.setdefault(id(tensor), name)
    return {
        name: first_names[id(tensor)]
        for name, tensor in state.items()
        if first_names[id(tensor)] != name
    }
