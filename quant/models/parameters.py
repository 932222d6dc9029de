"""The role of each parameter of a model, and the names of its tensors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

ROLES = ("matrix", "embedding", "head", "vector")
HEADS = ("lm_head", "head", "output", "embed_out", "unembed")


def roles_of(model: "nn.Module") -> dict[str, str]:
    """Role of each parameter by name, in the model's order; tied parameters by their first name.

    - "vector": at most one dimension is longer than 1.
    - "embedding": the weight of an ``nn.Embedding``, tied to the head or not.
    - "head": the weight of ``model.get_output_embeddings()``, or of a module whose name is in
      `HEADS`.
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
        if name.rpartition(".")[2] in HEADS
    }
    get_head = getattr(model, "get_output_embeddings", None)
    if callable(get_head):
        heads.add(id(getattr(get_head(), "weight", None)))

    def role(weight: "Tensor") -> str:
        if sum(n > 1 for n in weight.shape) <= 1:
            return "vector"
        if id(weight) in embeddings:
            return "embedding"
        return "head" if id(weight) in heads else "matrix"

    return {name: role(weight) for name, weight in model.named_parameters()}


def transposed_names(model: "nn.Module") -> set[str]:
    """Names of parameters that are stored (in, out): the weights of Hugging Face's ``Conv1D``."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    }


def state_of(model: "nn.Module") -> "dict[str, Tensor]":
    """Tensors of the model's state dict, not copies; a tied tensor appears by each of its names."""
    from torch import Tensor

    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def aliases_of(state: "dict[str, Tensor]") -> dict[str, str]:
    """First name of each tied tensor, by its further names."""
    first_names: dict[int, str] = {}
    for name, tensor in state.items():
        first_names.setdefault(id(tensor), name)
    return {
        name: first_names[id(tensor)]
        for name, tensor in state.items()
        if first_names[id(tensor)] != name
    }
