"""Write a trained demo model: int8 codes with a scale a row, in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from eval.demo.model import DemoModel


def save_model(model: DemoModel, path: Path, record: dict[str, object]) -> int:
    """Write the weights that `eval.demo.model.load_network` reads, and return the file's bytes.

    Parameters
    ----------
    model : DemoModel
        2-D weights are stored as int8, all others as they are (float32).
    path : Path
        The file to write.
    record : dict
        How the model was trained; kept as JSON in the file's metadata.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            tensors[name], tensors[name + ".scale"] = quantize_rows(value)
        else:
            tensors[name] = value.contiguous()
    metadata = {"config": json.dumps(asdict(model.config)), "record": json.dumps(record)}
    save_file(tensors, path, metadata=metadata)
    return path.stat().st_size


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Each row as int8 codes times one scale, the scale of least squared error of sixteen.

    Parameters
    ----------
    weight : (rows, columns) float32

    Returns
    -------
    codes : (rows, columns) int8
        In [-127, 127].
    scale : (rows,) float16
        ``codes * scale[:, None]`` is the weight to within half a scale, but for clipped ones.
    """
    absmax = weight.abs().amax(dim=1)
    tried = torch.linspace(0.7, 1.0, 16)
    # 2^-24 is float16's smallest step: a row of zeros still has a scale to divide by.
    scales = (absmax * tried[:, None] / 127).half().clamp(min=2**-24)
    coded = (weight / scales[..., None].float()).round().clamp(-127, 127)
    error = (coded * scales[..., None].float() - weight).square().sum(dim=2)
    best = error.argmin(dim=0)
    rows = torch.arange(len(weight))
    return coded[best, rows].to(torch.int8), scales[best, rows].contiguous()
