"""Frozen bytes of quantized files and packed codes: today's code reads and writes format version 2.

``python tests/golden/test_frozen_quantized.py`` writes the files anew, which only a new format
version needs; no test ever does.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import quant
from quant.io.codecs import CODECS
from quant.io.packing import pack, unpack

FOLDER = Path(__file__).with_name("frozen")
FIGURES = FOLDER / "quantized.json"
PACKED = "packed"  # codec none, codes without gaps
FILES = [*CODECS, PACKED]
GROUPS = {"per": "group", "group_size": 8}
CONFIGS = {
    "rows": quant.ScalarConfig(bits=6),
    "groups": quant.ScalarConfig(bits=3, symmetric=False, scale_dtype="float16", **GROUPS),
    "codebook": quant.LloydMaxConfig(k=5),
    "product": quant.ProductConfig(dim=2, k=8),
    "residual": quant.ResidualConfig(
        stages=(quant.ProductConfig(dim=4, k=4), quant.LloydMaxConfig(k=4))
    ),
    "gptq": quant.GptqConfig(inner=quant.ScalarConfig(bits=4, **GROUPS), static_groups=False),
}


def path_of(name):
    return FOLDER / f"quantized-{name}.ngq"


def tensors():
    """Tensors of every kind, of integer arithmetic alone before they are quantized."""
    i = np.arange(12 * 16)
    weight = ((i * i * 7 + i // 5) % 101 - 50).reshape(12, 16).astype(np.float32) / 64
    inputs = ((np.arange(64 * 16) * 37) % 29).reshape(64, 16) / 16.0
    hessian = inputs.T @ inputs / 64
    quantized = {
        name: quant.quantize(weight, config, hessian if name == "gptq" else None)
        for name, config in CONFIGS.items()
    }
    conv = torch.from_numpy(weight).reshape(3, 4, 4, 4).bfloat16()
    return quantized | {
        "convolution": quant.rtn(conv, bits=8),
        "transposed": quant.rtn(weight.astype(np.float16), bits=2, transposed=True),
        "norm": torch.arange(5, dtype=torch.bfloat16),
        "ids": np.arange(6, dtype=np.int16).reshape(2, 3),
    }


def codes_of(bits):
    return ((np.arange(21) * 11) % (1 << bits)).astype(np.uint8)


def figures_of(loaded):
    """Dtype, shape and SHA-256 of the values of each tensor."""
    figures = {}
    for name, tensor in loaded.items():
        values = tensor.dequantize() if isinstance(tensor, quant.QuantizedTensor) else tensor
        dtype = str(values.dtype)
        if isinstance(values, torch.Tensor):
            values = values.float().numpy()
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        figures[name] = [dtype, list(values.shape), digest]
    return figures


@pytest.mark.parametrize("name", FILES)
def test_a_frozen_file_is_loaded_to_the_same_values(name):
    if name != PACKED and not CODECS[name].is_installed:
        pytest.skip(f"{name} is not installed")
    assert figures_of(quant.load(path_of(name))) == json.loads(FIGURES.read_text())["tensors"]


@pytest.mark.parametrize("name", ["none", PACKED])
def test_loaded_tensors_are_saved_with_the_same_bytes(name, tmp_path):
    quant.save(tmp_path / "again", quant.load(path_of(name)), packed=name == PACKED, codec="none")
    assert (tmp_path / "again").read_bytes() == path_of(name).read_bytes()


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_are_packed_to_the_same_bytes(bits):
    packed = json.loads(FIGURES.read_text())["packed"][str(bits)]
    assert pack(codes_of(bits), bits).tobytes().hex() == packed
    again = unpack(np.frombuffer(bytes.fromhex(packed), np.uint8), bits, 21)
    np.testing.assert_array_equal(again, codes_of(bits))


if __name__ == "__main__":
    for name in FILES:
        codec = "none" if name == PACKED else name
        quant.save(path_of(name), tensors(), packed=name == PACKED, codec=codec)
    figures = {
        "tensors": figures_of(quant.load(path_of("none"))),
        "packed": {bits: pack(codes_of(bits), bits).tobytes().hex() for bits in range(1, 9)},
    }
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
