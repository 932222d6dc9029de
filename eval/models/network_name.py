"""The name of a model in the signature: a hash of every number that moves its logits."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from typing import Any

# Fields of a Hugging Face config that move no logit, or that the weights show.
NO_MATTER = {
    "transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "architectures",
    "dtype", "torch_dtype", "use_cache", "bos_token_id", "eos_token_id", "pad_token_id",
    "initializer_range", "id2label", "label2id", "task_specific_params", "_attn_implementation",
}  # fmt: skip
THREADS = 4  # each holds one tensor of a GPU in memory
FLOATS = ("float16", "bfloat16", "float32", "float64")  # dtypes that torch searches for NaN


def name_network(
    network: Any, name: str | None = None, config: Mapping[str, Any] | None = None
) -> str:
    """Name of a function or class; for a module with 8 hex digits of what it computes with.

    These are the hash of its weights and buffers, and of its config.

    Parameters
    ----------
    network : Any
        A torch module, or another callable.
    name : str, optional
        The first part. Default: the name of the function or class.
    config : mapping, optional
        The settings beside the weights. Default: the attribute ``config`` of the module, and those
        of its buffers that a file of weights leaves out.
    """
    name = name or name_of(network)
    return f"{name}-{hash_network(network, config)}" if is_module(network) else name


def is_module(network: Any) -> bool:
    """Whether the object is a torch module."""
    import torch

    return isinstance(network, torch.nn.Module)


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
    tensors = dict(network.state_dict())
    if config is None:
        config = config_of(network)
        tensors |= dict(network.named_buffers())
    keys = {
        name: (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        for name, value in sorted(tensors.items())
        if hasattr(value, "data_ptr")
    }
    distinct = {key: tensors[name] for name, key in keys.items()}  # a tied head is hashed once
    with ThreadPoolExecutor(THREADS) as pool:  # hashing releases the GIL
        hashes = dict(zip(distinct, pool.map(hash_tensor, distinct.values()), strict=True))
    settings = json.dumps(figures_of(config), sort_keys=True, default=name_of)
    digest = hashlib.sha256(settings.encode())
    for name, key in keys.items():
        digest.update(f"{name} {key[1]} {key[2]} {hashes[key]}\n".encode())
    return digest.hexdigest()[:8]


def hash_tensor(tensor: Any) -> str:
    """The SHA-256 of the bytes of a tensor."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


def config_of(network: Any) -> Mapping[str, Any]:
    """The attribute ``config`` of a module as a mapping; empty if it has none."""
    config: Any = getattr(network, "config", None)
    if hasattr(config, "to_dict"):
        return config.to_dict()  # type: ignore[no-any-return]
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    return config if isinstance(config, Mapping) else getattr(config, "__dict__", {})


def figures_of(config: Any) -> Any:
    """A config, at every depth, without the fields that move no logit."""
    if isinstance(config, Mapping):
        return {str(k): figures_of(v) for k, v in config.items() if k not in NO_MATTER}
    return [figures_of(item) for item in config] if isinstance(config, list | tuple) else config


def name_of(value: Any) -> str:
    """The name of a function or class, or of the class of another object."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))
