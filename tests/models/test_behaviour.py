"""The description of a model: it changes with what it computes with, and with nothing else."""

import functools
import subprocess
import sys
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eval.models import behaviour
from eval.models.behaviour import Description
from eval.models.code import code_of, globals_of, is_own, reachable
from eval.models.load_model import load_model
from eval.models.network_name import name_network
from tests.models.tiny import copy_folder, edit_config, save_llama

SCALE = 2.0
DATA = np.zeros(9)


class Kind(Enum):
    A = 1
    B = 2


class Block(torch.nn.Module):
    """A part with settings of every kind; the weights are always the same."""

    table = (1, 2)

    def __init__(self, eps=1e-5, act=F.relu, drop=0.1, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.drop = torch.nn.LayerNorm(4, eps=eps), torch.nn.Dropout(drop)
        self.map = torch.nn.Linear(4, 4)
        self.act = act
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.drop(self.act(self.map(self.norm(x))) * SCALE) * self.table[0]

    def train_step(self, x):
        return x * DATA


class Callable:
    def __init__(self, a, _b=0):
        self.a, self._b = a, _b

    def __call__(self, tokens):
        return self.double(tokens)

    def double(self, tokens):
        return tokens * 2 * self.a


def of_table(table, scale=1.0):
    return lambda tokens: table[tokens] * scale


def make(source, name="f"):
    space = {}
    exec(source, space)
    return space[name]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Block(), Block(eps=1e-3)),
        (Block(), Block(act=F.gelu)),
        (Block(act=functools.partial(F.gelu, approximate="none")),
         Block(act=functools.partial(F.gelu, approximate="tanh"))),
        (Block(scale=1), Block(scale=2)),
        (Block(scale=1), Block(scale=True)),
        (Block(_scale=1.0), Block(_scale=2.0)),
        (Block(table=(1, 2)), Block(table=(1, 3))),
        (Block(sizes=[1, {"a": 2}]), Block(sizes=[1, {"a": 3}])),
        (Block(kind=Kind.A), Block(kind=Kind.B)),
        (Block(kind=torch.float32), Block(kind=torch.bfloat16)),
        (Block(cos=torch.ones(2)), Block(cos=torch.zeros(2))),  # not registered
        (Block(cos=np.ones(2)), Block(cos=np.ones(2, np.float32))),
        (Block(rest=SimpleNamespace(a=1)), Block(rest=SimpleNamespace(a=2))),
        (Block(parts=[Block()]), Block(parts=[Block(eps=1e-3)])),  # of no ModuleList
        (Block(helper=Callable(1)), Block(helper=Callable(2))),
        (Block(forward=lambda x: x), Block(forward=lambda x: 2 * x)),
        (Callable(1), Callable(2)),
        (Callable(1), Callable(1, 1)),
        (Callable(1).double, Callable(2).double),
        (of_table(np.eye(3)), of_table(np.ones((3, 3)))),
        (of_table(np.eye(3)), of_table(np.eye(3), 2.0)),
        (of_table(Block()), of_table(Block(eps=1e-3))),
        (make("def f(x): return x"), make("def f(x): return -x")),
        (make("def f(x): return x * 2"), make("def f(x): return x * 3")),
        (make("def f(x, a=2): return x * a"), make("def f(x, a=3): return x * a")),
        (make("def f(x, *, a=2): return x * a"), make("def f(x, *, a=3): return x * a")),
        (make("A = 2\ndef f(x): return x * A"), make("A = 3\ndef f(x): return x * A")),
        (make("def g(x): return x\ndef f(x): return g(x)"),
         make("def g(x): return -x\ndef f(x): return g(x)")),
        (make("import functools\n@functools.lru_cache\ndef f(x): return x"),
         make("import functools\n@functools.lru_cache\ndef f(x): return -x")),
    ],
)  # fmt: skip
def test_what_moves_a_logit_is_in_the_name(one, other):
    assert name_network(one) != name_network(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Block(), Block()),
        (Block(), Block(drop=0.5)),
        (Block(name="a", tokenizer="b", context=3), Block()),
        (Block(device="cuda:0", rank=0), Block(device="cuda:1", rank=1)),
        (Block(), Block().train()),
        (of_table(np.eye(3)), of_table(np.eye(3))),
        (of_table(np.eye(3)), of_table(np.eye(3).copy(order="F"))),
        (make("def f(x): return x"), make("# said\n\ndef f(x):\n    return x  # so\n")),
    ],
)
def test_what_moves_none_is_not(one, other):
    assert name_network(one) == name_network(other)


def test_weights_below_a_hook_are_other_logits():
    one, other = Block(), Block()
    other.map.register_forward_hook(lambda module, inputs, output: output * 2)
    assert name_network(one) != name_network(other)


def test_only_what_the_forward_pass_uses_is_described(monkeypatch):
    name = name_network(Block())
    monkeypatch.setitem(globals(), "DATA", np.ones(9))  # of train_step alone
    assert name_network(Block()) == name
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert name_network(Block()) != name


def test_large_arrays_and_files_beside_a_function_are_data(monkeypatch, tmp_path):
    source = "def f(x): return x + data.mean()"
    one, other = make(source), make(source)
    one.__globals__["data"], other.__globals__["data"] = np.ones(3), np.zeros(3)
    assert name_network(one) != name_network(other)
    np.save(tmp_path / "a.npy", np.ones(3))
    one.__globals__["data"] = np.load(tmp_path / "a.npy", mmap_mode="r")
    monkeypatch.setattr(behaviour, "MAX_GLOBAL", 8)
    assert name_network(one) == name_network(other)


def test_builtin_and_installed_functions_have_their_names_alone():
    assert name_network(len) == "len"
    assert name_network(F.relu).startswith("relu")
    assert name_network(F.relu) == name_network(F.relu)
    assert not is_own(int)
    assert not is_own(torch.nn.Linear)
    assert not is_own(json_dumps())
    assert is_own(Block)


def json_dumps():
    import json

    return json.dumps


def test_objects_that_hold_each_other_come_to_an_end():
    one, other = Callable(1), Callable(2)
    one.other, other.other = other, one
    deep = []
    deep.append(deep)
    assert Description().of(one) == Description().of(one)
    assert Description().of(deep)
    block = Block()
    block.whole = [block]
    assert name_network(block) == name_network(block)


def test_objects_that_come_again_are_told_apart():
    relu, gelu = make("def f(x): return x"), make("def f(x): return -x")
    assert Description().of([relu, gelu, relu]) != Description().of([relu, gelu, gelu])


def test_the_parts_of_code():
    function = make("def f(x):\n    def g(y): return abs(y) + A\n    return g(x).real\n")
    assert globals_of(function.__code__) == ["A", "abs"]
    constants = [make(f"def f(x): return x in {{{names}}}") for names in ("'a', 'b'", "'b', 'a'")]
    assert code_of(constants[0].__code__) == code_of(constants[1].__code__)
    members = {"forward": lambda self: self.a(), "a": property(lambda self: self.b), "b": 1, "c": 2}
    assert reachable(members, ["forward", "missing"]) == ["a", "b", "forward"]


def test_the_name_is_the_same_in_every_process(tmp_path):
    (tmp_path / "made.py").write_text(
        "import torch\n"
        "from eval.models.network_name import name_network\n"
        "def make():\n"
        "    names = {'a', 'b', 'c', 'd'}\n"
        "    return lambda x: x in names or x in {'e', 'f', 'g'}\n"
        "print(name_network(make()))\n"
    )
    names = {
        subprocess.run(
            [sys.executable, "made.py"], cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(names) == 1


# Another value of every field of the config of a tiny Llama.
OTHER = {
    "hidden_act": "gelu", "rms_norm_eps": 0.1, "head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10.0},
    "tie_word_embeddings": True, "attention_dropout": 0.5, "pretraining_tp": 2,
    "max_position_embeddings": 32, "attn_implementation": "eager", "_attn_implementation": "eager",
    "sliding_window": 3, "is_causal": True, "rope_scaling": {"type": "linear", "factor": 4.0},
    "transformers_version": "0", "_name_or_path": "/a", "name_or_path": "/a", "use_cache": False,
    "bos_token_id": 5, "eos_token_id": 5, "pad_token_id": 5, "initializer_range": 1.0,
    "dtype": "bfloat16", "torch_dtype": "float16", "id2label": {"0": "a"}, "architectures": [],
    "task_specific_params": {"a": 1}, "_commit_hash": "a",
}  # fmt: skip
IGNORED = {"_commit_hash", "transformers_version", "_name_or_path", "name_or_path", "use_cache",
           "initializer_range", "dtype", "torch_dtype", "id2label", "task_specific_params",
           "bos_token_id", "eos_token_id", "architectures"}  # fmt: skip
# These decide the shapes of the weights, which are refused if they do not fit.
SHAPES = {
    "attention_bias",
    "hidden_size",
    "intermediate_size",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
}


def test_every_field_of_a_config_that_moves_a_logit_is_in_the_name(tmp_path):
    pytest.importorskip("transformers")
    network = save_llama(tmp_path / "m")
    assert {*network.config.to_diff_dict()} <= {*OTHER, *SHAPES}
    tokens = np.arange(1, 31)[None]
    model = load_model(tmp_path / "m", device="cpu")  # in float32, whatever the config says
    logits = model.logits(tokens)
    for field, value in OTHER.items():
        folder = copy_folder(tmp_path / "m", tmp_path / field / "m")
        edit_config(folder, **{field: value})
        try:
            other = load_model(folder, device="cpu")
        except ValueError:
            continue  # refused: no figure
        if not torch.equal(other.logits(tokens), logits):
            assert other.name != model.name, field
        if field in IGNORED:
            assert other.name == model.name, field


MODELING = """
from transformers import LlamaForCausalLM

class TinyForCausalLM(LlamaForCausalLM):
    def forward(self, *args, **options):
        output = super().forward(*args, **options)
        output.logits = output.logits * {scale}
        return output
"""


def test_the_code_that_comes_with_a_model_is_in_its_name(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    copies = str(tmp_path / "modules")  # where transformers copies the code to
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", copies)
    monkeypatch.syspath_prepend(copies)
    names, logits = [], []
    for i, scale in enumerate((1.0, 1.0, 2.0)):
        folder = tmp_path / str(i) / f"m{i}"  # transformers keeps modules by the folder's name
        save_llama(folder)
        edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM"})
        (folder / "modeling_tiny.py").write_text(MODELING.format(scale=scale))
        model = load_model(folder, trust_remote_code=True)
        names.append(model.name.removeprefix(f"m{i}-"))
        logits.append(model.logits(np.arange(1, 20)[None]))
    assert names[0] == names[1] != names[2]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_positions_that_are_counted_from_the_padding_are_in_the_name(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.RobertaConfig(
        vocab_size=257, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=40, is_decoder=True, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.RobertaForCausalLM(config).save_pretrained(tmp_path / "m")
    names = set()
    for padding in (1, 5):
        folder = copy_folder(tmp_path / "m", tmp_path / str(padding) / "m")
        edit_config(folder, pad_token_id=padding)
        names.add(load_model(folder, context=20).name)
    assert len(names) == 2
