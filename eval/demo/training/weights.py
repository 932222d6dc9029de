"""save_weights: a trained demo model as int8 codes with a scale per row, in one file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from eval.demo.model import DemoModel
from quant import rtn


def save_weights(model: DemoModel, path: Path, record: dict[str, object]) -> None:
    """Write the safetensors file that `eval.demo.model.load_network` reads.

    Parameters
    ----------
    model : DemoModel
        Matrices are stored as int8 codes and a float16 scale per row, other weights as float32.
    path : Path
        The file.
    record : dict
        How the model was trained; stored as JSON in the metadata of the file.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            quantized = rtn(value, bits=8, clip="mse", scale_dtype="float16")
            tensors[name] = torch.from_numpy(quantized.codes)
            tensors[name + ".scale"] = torch.from_numpy(quantized.arrays["scales"][:, 0].copy())
        else:
            tensors[name] = value.contiguous()
    metadata = {"config": json.dumps(asdict(model.config)), "record": json.dumps(record)}
    save_file(tensors, path, metadata=metadata)
