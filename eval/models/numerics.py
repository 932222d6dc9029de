"""How the numbers of a model are computed: its dtype and device, and what moves its rounding."""

import os
import platform
from operator import attrgetter
from typing import Any

from eval.models.base import Model
from eval.models.tensors import is_module

NUMERICS = ("dtype", "device", "hardware", "torch_threads", "torch_settings")
# Settings of torch that move the rounding of a forward pass, by their names in it. Releases lack
# some of them; one that was set by its newer name cannot be read by its older one.
SETTINGS = (
    "get_float32_matmul_precision", "backends.fp32_precision",
    "are_deterministic_algorithms_enabled", "get_default_dtype",
)  # fmt: skip
OF_DEVICE = {
    "cpu": ("backends.mkldnn.matmul.fp32_precision", "backends.mkldnn.enabled"),
    "cuda": (
        "backends.cuda.matmul.allow_tf32", "backends.cuda.matmul.fp32_precision",
        "backends.cudnn.allow_tf32", "backends.cudnn.enabled", "backends.cudnn.deterministic",
        "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
        "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
        "backends.cuda.flash_sdp_enabled", "backends.cuda.mem_efficient_sdp_enabled",
        "backends.cuda.math_sdp_enabled", "backends.cuda.cudnn_sdp_enabled",
    ),
}  # fmt: skip
# Variables of the environment that do so too.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_MAX_CPU_ISA", "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE", "MKL_ENABLE_INSTRUCTIONS", "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)  # fmt: skip


def numerics_of(model: Model | None) -> dict[str, Any]:
    """What moves the rounding of a model, for the conditions of a result; None without a model.

    Returns
    -------
    dict
        ``dtype``: of the weights as they were loaded; None for a model without weights.
        ``device``: ``cpu``, ``cuda`` or ``mps``; None if the model does not tell. ``hardware``: the
        name of the GPU, or the instructions of the CPU. ``torch_threads``: on a CPU, where sums are
        divided among them. ``torch_settings``: settings of torch and variables of the environment.
    """
    if model is None:
        return dict.fromkeys(NUMERICS)
    import torch

    device = device_kind(model)
    return {
        "dtype": dtype_of(model),
        "device": device,
        "hardware": hardware_of(getattr(model, "device", None)),
        "torch_threads": torch.get_num_threads() if device in (None, "cpu") else None,
        "torch_settings": describe_settings(device),
    }


def dtype_of(model: Model) -> str | None:
    """The dtype of the weights, such as ``bfloat16``; several are joined by ``+``."""
    network: Any = getattr(model, "network", None)
    if not is_module(network):
        return None
    dtypes = {str(p.dtype).removeprefix("torch.") for p in network.parameters()}
    return "+".join(sorted(dtypes)) or None


def device_kind(model: Model) -> str | None:
    """The kind of device that the model runs on, such as ``cuda``; None if it does not tell."""
    device = getattr(model, "device", None)
    return None if device is None else str(device).partition(":")[0]


def hardware_of(device: Any) -> str:
    """The name of a GPU, a device of torch; else the architecture and instructions of the CPU."""
    import torch

    if str(device).partition(":")[0] == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def describe_settings(device: str | None) -> str:
    """`SETTINGS`, those of the device, and `VARIABLES` that are set: ``name value, name value``."""
    import torch

    kind = device if device in OF_DEVICE else "cpu"
    parts = []
    if torch.is_autocast_enabled(kind):
        parts.append(f"autocast {torch.get_autocast_dtype(kind)}")
    for name in (*SETTINGS, *OF_DEVICE[kind]):
        try:
            value = attrgetter(name)(torch)
            value = value() if callable(value) else value
        except (AttributeError, RuntimeError):
            continue
        parts.append(f"{name.removeprefix('get_')} {value}")
    parts += [f"{name} {os.environ[name]}" for name in VARIABLES if name in os.environ]
    return ", ".join(parts)
