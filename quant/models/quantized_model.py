"""A quantized model: its tensors by name, out of a model and into one, and as a file."""

import json
import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.base.tensor import QuantizedTensor
from quant.io.file import MAX_BYTES, load, save
from quant.models.parameters import state_of
from quant.models.report import TensorReport, make_table

if TYPE_CHECKING:
    from torch import Tensor, nn

ALIASES = "__aliases__"  # of a file: JSON, as bytes


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class QuantizedModel:
    """The state of a model, quantized; `quantize_model` makes one.

    Attributes
    ----------
    tensors : dict of QuantizedTensor, or tensors of torch that are as they were
        By name, as in the model's ``state_dict``; tied ones once, by the first of their names.
    aliases : dict of str
        The other names of tied ones, and the first of each.
    report : tuple of TensorReport
        What became of each; empty if it was loaded.
    """

    tensors: dict[str, Any]
    aliases: dict[str, str]
    report: tuple[TensorReport, ...] = ()

    @property
    def n_weights(self) -> int:
        """Numbers in all tensors."""
        return sum(prod(shape_of(its)) for its in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of packed codes and of all arrays, before any compression."""
        return sum(its.nbytes for its in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """All bytes, in bits a number."""
        return 8 * self.nbytes / self.n_weights

    def load_into(self, model: "nn.Module") -> None:
        """Copy all weights, dequantized, into a model that has tensors of the same names.

        ValueError if it lacks one, has others, or one is of another shape; then none was copied.
        """
        import torch

        state = state_of(model)
        source = {name: name for name in self.tensors} | self.aliases
        if differing := sorted(state.keys() ^ source.keys()):
            raise ValueError(
                "a model must have the tensors that were quantized, got differing "
                f"{', '.join(differing)}; load into a model of the same kind"
            )
        for name, tensor in state.items():
            shape = shape_of(self.tensors[source[name]])
            if shape != tuple(tensor.shape):
                raise ValueError(
                    f"{name} must have the shape that was quantized, {shape}, got "
                    f"{tuple(tensor.shape)}; load into a model of the same kind"
                )
        values = {name: dequantized(tensor) for name, tensor in self.tensors.items()}
        with torch.no_grad():
            for name, tensor in state.items():
                tensor.copy_(values[source[name]])

    def save(
        self, path: str | os.PathLike[str], *, packed: bool = False, codec: str = "best"
    ) -> int:
        """Bytes of the file that holds the tensors from now on; see `quant.io.file.save`."""
        tensors = dict(self.tensors)
        if ALIASES in tensors:
            raise ValueError(f"{ALIASES} is a name of the file's own; rename the tensor")
        if self.aliases:
            tensors[ALIASES] = np.frombuffer(json.dumps(self.aliases).encode(), np.uint8)
        return save(path, tensors, packed=packed, codec=codec)

    @classmethod
    def load(cls, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> "QuantizedModel":
        """The tensors that were saved, the same bits; ValueError as `quant.io.file.load`."""
        tensors = load(path, max_bytes)
        aliases = read_aliases(tensors.pop(ALIASES, None))
        if aliases is None or not all(
            name not in tensors and first in tensors for name, first in aliases.items()
        ):
            raise ValueError(
                f"{ALIASES} must give other names of tensors, got otherwise in {path}; save the "
                "model again"
            )
        return cls(tensors=tensors, aliases=aliases)

    def table(self) -> str:
        """A line for each tensor: bits a weight, errors, seconds; then all together."""
        return make_table(self.report, self.bits_per_weight)

    def __repr__(self) -> str:
        return (
            f"QuantizedModel({len(self.tensors)} tensors, {self.n_weights} weights, "
            f"{self.bits_per_weight:.3f} bits a weight)"
        )


def shape_of(tensor: Any) -> tuple[int, ...]:
    """The shape of a weight, quantized or not."""
    return tuple(tensor.layout.shape if isinstance(tensor, QuantizedTensor) else tensor.shape)


def dequantized(tensor: Any) -> "Tensor":
    """The weight, quantized or not, as a tensor of torch."""
    import torch

    return torch.as_tensor(tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor)


def read_aliases(stored: Any) -> dict[str, str] | None:
    """Aliases of a file, none if it has none; None if they are no names."""
    if stored is None:
        return {}
    try:
        aliases = json.loads(bytes(stored))
    except (ValueError, TypeError, RecursionError):
        return None
    is_named = isinstance(aliases, dict) and all(type(name) is str for name in aliases.values())
    return aliases if is_named else None
