"""The file of the demo's weights: quantization by `quant.rtn` gives the shipped bytes back."""

import json

from safetensors import safe_open
from torch import equal

from eval.demo.model import WEIGHTS_PATH, load_network
from eval.demo.training.weights import save_weights


def read(path):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata()


def test_the_shipped_weights_come_back_bit_for_bit(tmp_path):
    shipped, metadata = read(WEIGHTS_PATH)
    path = tmp_path / "weights.safetensors"
    save_weights(load_network(), path, json.loads(metadata["record"]))
    tensors, again = read(path)
    assert again == metadata
    assert tensors.keys() == shipped.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == shipped[name].dtype
        assert equal(tensor, shipped[name])
