"""The name of a model in the signature: a hash of what moves its logits."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from eval.models.behaviour import Description, figures_of, name_of
from eval.models.tensors import hash_tensors, is_module

FLOATS = ("float16", "bfloat16", "float32", "float64")  # dtypes that torch searches for NaN
HF_CODE = "transformers_modules"  # the package of the code that comes with a model


def name_network(
    network: Any, name: str | None = None, config: Mapping[str, Any] | None = None
) -> str:
    """Name of a model, with 8 hex digits of the hash of what it computes with.

    For a module these are its weights and buffers, its config, and the classes and attributes of
    its parts; for another callable its code and what it holds. A user's own code is part of the
    hash, that of an installed package is not. A builtin function has its name alone.

    Parameters
    ----------
    network : Any
        A torch module, or another callable.
    name : str, optional
        The first part. Default: the name of the function or class.
    config : mapping, optional
        The settings of a module, which then stand for its classes and attributes, and for the
        buffers that a file of weights leaves out: those of a file, which say it all. Default: the
        attribute ``config``.
    """
    name = name or name_of(network)
    if is_module(network):
        return f"{name}-{hash_network(network, config)}"
    held = Description().of(network)
    return name if held == [name_of(network), None] else f"{name}-{hash_values(held)[:8]}"


def check_weights(network: Any, name: str) -> None:
    """Raise ValueError if a weight of a module has no value, or is NaN."""
    import torch

    floats = [getattr(torch, name) for name in FLOATS]
    for key, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_meta:
            raise ValueError(
                f"weights must have values, got none for {key} of {name}, which is on the meta "
                "device; load the weights into the module first"
            )
        if value.dtype in floats and value.isnan().any():
            raise ValueError(
                f"weights must be numbers, got NaN in {key} of {name}; load them from another "
                "checkpoint"
            )


def hash_network(network: Any, config: Mapping[str, Any] | None) -> str:
    """8 hex digits of the hash of a module; see `name_network`."""
    tensors, has_file = dict(network.state_dict()), config is not None
    if config is None:
        config = config_of(network)
        tensors |= dict(network.named_buffers())
    settings = json.dumps(figures_of(config), sort_keys=True, default=name_of)
    digest = hashlib.sha256(settings.encode())
    for line in hash_tensors(tensors):
        digest.update(f"{line}\n".encode())
    if not has_file or type(network).__module__.partition(".")[0] == HF_CODE:
        digest.update(hash_values(Description().of_module(network)).encode())
    return digest.hexdigest()[:8]


def hash_values(values: Any) -> str:
    """The SHA-256 of values for JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=name_of).encode()).hexdigest()


def config_of(network: Any) -> Mapping[str, Any]:
    """The attribute ``config`` of a module as a mapping; empty if it has none."""
    config: Any = getattr(network, "config", None)
    if hasattr(config, "to_dict"):
        return config.to_dict()  # type: ignore[no-any-return]
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
