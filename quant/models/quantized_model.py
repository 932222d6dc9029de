"""A quantized model: its tensors by name, loaded into a model, saved to and loaded from a file."""

import json
import os
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.io.file import MAX_BYTES, load, max_header, save
from quant.models.loading import dequantized, load_tensors, shape_of
from quant.models.report import TensorReport, make_table

if TYPE_CHECKING:
    from torch import Tensor, nn

ALIASES = "__aliases__"  # array of a file: JSON as bytes


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class QuantizedModel:
    """The quantized state of a model; `quantize_model` makes one.

    Attributes
    ----------
    tensors : dict of QuantizedTensor and torch tensors
        By name, as in the model's ``state_dict``. A tied tensor appears once, by its first name;
        a tensor that is not quantized is a torch tensor.
    aliases : dict of str
        First name of each tied tensor, by its further names.
    report : tuple of TensorReport
        One report for each tensor; empty for a model that was loaded from a file.
    """

    tensors: dict[str, Any]
    aliases: dict[str, str]
    report: tuple[TensorReport, ...] = ()

    @property
    def n_weights(self) -> int:
        """Number of entries of all tensors."""
        return sum(prod(shape_of(tensor)) for tensor in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of packed codes and all other arrays, before compression."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits of `nbytes` per entry; 0 for a model without entries."""
        return 8 * self.nbytes / self.n_weights if self.n_weights else 0.0

    def load_into(self, model: "nn.Module") -> None:
        """Copy all tensors, dequantized, into a model with tensors of the same names.

        Names may differ by the prefixes ``_orig_mod.`` and ``module.`` of a model that was compiled
        or made parallel; a warning says so. Tensors on the device meta are put into memory.

        Raises
        ------
        ValueError
            If the model lacks a tensor or has further ones; one has another shape, cannot hold the
            values, or is tied to another that has other values; or a buffer that no file holds is
            on the device meta. Nothing is copied then.
        """
        load_tensors(model, self.tensors, self.aliases)

    def dequantize(self) -> "dict[str, Tensor]":
        """The weights as torch tensors on the CPU, by name; tied ones once, by their first name."""
        return {name: dequantized(tensor) for name, tensor in self.tensors.items()}

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        packed: bool = False,
        codec: str = "best",
        progress: bool = False,
    ) -> None:
        """Save the tensors in one compressed file; see `quant.save`."""
        tensors = dict(self.tensors)
        if ALIASES in tensors:
            raise ValueError(
                f"{ALIASES} is reserved for the file, got a tensor of that name; rename the tensor"
            )
        if self.aliases:
            tensors[ALIASES] = np.frombuffer(json.dumps(self.aliases).encode(), np.uint8)
        save(path, tensors, packed=packed, codec=codec, progress=progress)

    @classmethod
    def load(cls, path: str | os.PathLike[str], max_bytes: int = MAX_BYTES) -> "QuantizedModel":
        """Load a model that was saved; same bits. ValueError as in `quant.load`."""
        tensors = load(path, max_bytes)
        aliases = read_aliases(tensors.pop(ALIASES, None), max_header(max_bytes))
        if aliases is None or not all(
            name not in tensors and first in tensors for name, first in aliases.items()
        ):
            raise ValueError(
                f"{ALIASES} must map further names of tied tensors to their first names, got "
                f"something else in {path}; save the model again"
            )
        return cls(tensors=tensors, aliases=aliases)

    def table(self) -> str:
        """Table of the report: a line for each tensor, and a line for all tensors together."""
        return make_table(self.report, self.bits_per_weight)

    def __repr__(self) -> str:
        return (
            f"QuantizedModel({len(self.tensors)} tensors, {self.n_weights} weights, "
            f"{self.bits_per_weight:.3f} bits a weight)"
        )


def read_aliases(stored: Any, limit: int) -> dict[str, str] | None:
    """Aliases of a file: an empty dict if it has none, None if they are no JSON up to `limit`."""
    if stored is None:
        return {}
    if not isinstance(stored, np.ndarray) or stored.dtype != np.uint8 or stored.size > limit:
        return None
    try:
        aliases = json.loads(bytes(stored))
    except (ValueError, TypeError, RecursionError):
        return None
    is_valid = isinstance(aliases, dict) and all(type(name) is str for name in aliases.values())
    return aliases if is_valid else None
