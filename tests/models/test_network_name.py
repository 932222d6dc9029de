"""The name of a model: it changes with every number that moves a logit, and with no other."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from eval.models.load_model import load_model
from eval.models.network_name import name_network
from eval.models.wrap import wrap
from tests.models.tiny import copy_folder, edit_config, rename_weights, save_llama


@dataclass
class Config:
    heads: int = 2
    dtype: str = "float32"


class Net(torch.nn.Module):
    def __init__(self, config=None, base=100.0):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(7, 7)
        self.head = self.table  # tied
        self.register_buffer("rotary", torch.tensor([base]), persistent=False)
        if config is not None:
            self.config = config

    def forward(self, tokens):
        return self.table(tokens)


def test_weights_buffers_dtypes_and_configs_are_in_the_name():
    networks = [
        Net(), Net(base=10.0), Net().bfloat16(), Net(Config()), Net(Config(heads=4)),
        Net({"heads": 4, "deep": [{"eps": 1e-5}]}), Net({"heads": 4, "deep": [{"eps": 1e-6}]}),
    ]  # fmt: skip
    other = Net()
    with torch.no_grad():
        other.table.weight[0, 0] += 1
    names = [name_network(network) for network in (*networks, other)]
    assert len(set(names)) == len(names)
    assert all(name.startswith("Net-") and len(name) == 12 for name in names)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Config(dtype="x"), Config(dtype="y")),
        ({"heads": 2, "transformers_version": "4"}, {"transformers_version": "5", "heads": 2}),
        ({"text": {"_name_or_path": "/a", "heads": 2}}, {"text": {"heads": 2}}),
        (SimpleNamespace(make=lambda: 1), SimpleNamespace(make=lambda: 1)),
        (None, {}),
    ],
)
def test_what_moves_no_figure_is_not(a, b):
    assert name_network(Net(a)) == name_network(Net(b))


def test_a_function_has_its_name_alone():
    assert name_network(len) == "len"
    assert name_network(Net(), "mine", {}).startswith("mine-")


def test_the_name_of_a_folder_follows_what_is_loaded(tmp_path):
    pytest.importorskip("transformers")
    save_llama(tmp_path / "m")
    name = load_model(tmp_path / "m").name
    assert load_model(f"{tmp_path}/m/").name == name

    def renamed(change):
        copy = copy_folder(tmp_path / "m", tmp_path / "other" / "m")
        change(copy)
        return load_model(copy, device="cpu").name

    assert renamed(lambda folder: (folder / "notes.safetensors").touch()) == name
    assert (
        renamed(lambda folder: edit_config(folder, transformers_version="0", use_cache=False))
        == name
    )
    assert renamed(lambda folder: edit_config(folder, rms_norm_eps=1e-3)) != name
    with pytest.warns(UserWarning, match="wrapper"):
        assert renamed(lambda f: rename_weights(f, lambda key: f"module.{key}")) == name


def test_modules_without_weights_are_refused():
    with torch.device("meta"):
        network = Net()
    with pytest.raises(ValueError) as error:
        wrap(network, context=4, tokenizer=None)
    assert str(error.value) == (
        "weights must have values, got none for table.weight of Net, which is on the meta device; "
        "load the weights into the module first"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_weights_are_refused(dtype):
    network = Net().to(dtype)
    network.table.weight.data[1, 2] = float("nan")
    with pytest.raises(ValueError) as error:
        wrap(network, context=4, tokenizer=None, name="mine")
    assert str(error.value) == (
        "weights must be numbers, got NaN in table.weight of mine; load them from another "
        "checkpoint"
    )
