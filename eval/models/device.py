"""The device and the dtype that a user names, in the spellings that people use."""

from typing import Any

DTYPES = {
    "float32": ("fp32", "f32", "float", "single"),
    "bfloat16": ("bf16",),
    "float16": ("fp16", "f16", "half"),
    "float64": ("fp64", "f64", "double"),
}


def find_devices() -> list[str]:
    """The devices that torch can use here, by name."""
    import torch

    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or not torch.accelerator.is_available():
        return ["cpu"]
    n_devices = torch.accelerator.device_count()
    return ["cpu", *(f"{accelerator.type}:{i}" for i in range(n_devices))]


def read_device(device: object) -> str:
    """The torch name of a device: ``gpu`` is that of this machine, ``1`` its second.

    ValueError if there is no such device.
    """
    names = find_devices()
    kinds = {name.partition(":")[0] for name in names}
    text = str(device).strip().lower()
    accelerator = names[-1].partition(":")[0]
    if accelerator != "cpu":
        text = text.replace("gpu", accelerator) if text.startswith("gpu") else text
        text = f"{accelerator}:{text}" if text.isdecimal() else text
    text = "cpu" if text == "cpu:0" else text
    if text not in kinds and text not in names:
        raise ValueError(
            f"device must be one of those that torch can use here ({', '.join(names)}), got "
            f"{str(device)!r}; leave it out for the default"
        )
    return text


def default_device() -> str:
    """``cuda`` if torch can use it, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def read_dtype(dtype: object) -> Any:
    """The torch dtype of a name such as ``bf16`` or ``torch.bfloat16``; None for ``auto``.

    ValueError for any other name.
    """
    import torch

    text = str(dtype).strip().lower().removeprefix("torch.")
    for name, others in DTYPES.items():
        if text == name or text in others:
            return getattr(torch, name)
    if text != "auto":
        raise ValueError(
            f"dtype must be auto, float32, bfloat16, float16 or float64, got {str(dtype)!r}; leave "
            "it out for the default"
        )
    return None
