"""What each parameter of a model is for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

ROLES = ("matrix", "embedding", "head", "vector")
HEADS = ("lm_head", "head", "output", "embed_out", "unembed")


def roles_of(model: "nn.Module") -> dict[str, str]:
    """The role of each parameter by name, in the model's order; tied ones by their first name.

    "vector": at most one dimension longer than 1. "embedding": the weight of an Embedding, also
    where it is the head as well. "head": what `get_output_embeddings` gives, or the weight of a
    module called as heads mostly are, `HEADS`. "matrix": any other.
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
    """Parameters that are stored (in, out): those of a Conv1D, as Hugging Face has it."""
    return {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    }


def state_of(model: "nn.Module") -> "dict[str, Tensor]":
    """Parameters and buffers that make up the state, themselves, by each of their names."""
    from torch import Tensor

    state = model.state_dict(keep_vars=True)
    return {name: its for name, its in state.items() if isinstance(its, Tensor)}


def aliases_of(state: "dict[str, Tensor]") -> dict[str, str]:
    """Names of tensors that have another before, tied ones, and the first name of each."""
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    return {name: first[id(its)] for name, its in state.items() if first[id(its)] != name}
