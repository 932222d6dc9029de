"""A model with the weights of a quantized file, and a name that has the hash of the file."""

import hashlib
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.models.base import Model
from quant import QuantizedModel

QUANTIZED = "model.ngq"  # the file that ``ngrammix quantize`` writes


def quantized_path(path: str | os.PathLike[str]) -> Path:
    """The quantized file itself, if a folder that ``ngrammix quantize`` made is named."""
    path = Path(path)
    return path / QUANTIZED if path.is_dir() else path


def network_of(model: Model) -> Any:
    """The torch module of a model; ValueError if there is none."""
    import torch

    network = getattr(model, "network", None)
    if not isinstance(network, torch.nn.Module):
        raise ValueError(
            f"weights need a torch module, got none in {model.name}; let the factory return the "
            "module"
        )
    return network


def with_weights(
    model: Model, quantized: QuantizedModel, path: Path, *, in_place: bool = False
) -> Model:
    """A model with the dequantized weights of a file; its network is a copy, if not in place."""
    network = network_of(model)
    if not in_place:
        network = deepcopy(network)
    quantized.load_into(network)
    wrapped: Any = model  # a WrappedModel, since it has a network
    name = f"{model.name}+quantized-{hash_file(path)}"
    quantized_model: Model = replace(wrapped, network=network, name=name)
    return quantized_model


def hash_file(path: Path) -> str:
    """8 hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
