"""Folders of models with damaged or hostile files: each is read, or refused in one line."""

import json
import os
import shutil

import pytest
import torch

from eval.models.load_model import load_model
from eval.models.size_limits import check_settings, held_to_weights
from eval.models.weight_files import find_weights
from tests.faults.model_mutants import safetensors_mutants, setting_mutants, text_mutants
from tests.faults.mutants import chosen
from tests.faults.watchdog import Watchdog
from tests.models.tiny import edit_config, save_llama, save_tokenizer

transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 257, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": 0, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64,
}  # fmt: skip
FAMILIES = {
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config, {}),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, {}),
    "mixtral": (transformers.MixtralForCausalLM, transformers.MixtralConfig,
                {"num_local_experts": 2, "num_key_value_heads": 1}),
    "mamba": (transformers.MambaForCausalLM, transformers.MambaConfig, {"max_seq_len": 64}),
}  # fmt: skip


N, SEED = chosen(0)  # of each file; 0: as many as in `KINDS`


def setting(content, seed, n):
    return setting_mutants(json.loads(content), seed, n)


KINDS = {
    "config.json": (setting, 25, FAMILIES),
    "config.json as text": (text_mutants, 30, ["llama", "mamba"]),
    "generation_config.json": (text_mutants, 40, ["gpt2"]),
    "model.safetensors": (safetensors_mutants, 60, ["llama"]),
    "tokenizer_config.json": (text_mutants, 40, ["llama"]),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """A folder with a tiny model of each family."""
    root = tmp_path_factory.mktemp("seeds")
    for name, (network, config, fields) in FAMILIES.items():
        torch.manual_seed(1)
        network(config(**SMALL | fields)).save_pretrained(root / name)
        save_tokenizer(root / name)
    return root


@pytest.fixture(scope="module")
def dog(seeds):
    with Watchdog("tests.faults.readers:read_model", whole=seeds / "llama") as dog:
        yield dog


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_read_or_refused_in_one_line(seeds, dog, tmp_path, kind):
    mutants, n, families = KINDS[kind]
    name, wrong = kind.partition(" ")[0], []
    for family in families:
        folder = tmp_path / family
        shutil.copytree(seeds / family, folder)
        for mutant in mutants((folder / name).read_bytes(), f"{SEED} {kind} {family}", N or n):
            (folder / name).write_bytes(mutant)
            if not (outcome := dog.read(folder)).is_right:
                wrong.append((family, mutant[:2000], outcome))
        shutil.copy(seeds / family / name, folder / name)
        assert dog.read(folder).kind == "read"
    assert not wrong


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model_type": 7}, "model_type in config.json must be a text, got int in x; correct it"),
        ({"architectures": "A"},
         "architectures in config.json must be a list of texts, got str in x; correct it"),
        ({"architectures": ["A", {}]},
         "architectures in config.json must be a list of texts, got dict in it in x; correct it"),
        ({"a": [{"b": 2**63}]},
         "a.b in config.json must fit in 64 bits, got 9223372036854775808 in x; correct it"),
        ({"a": -(10**400)},
         "a in config.json must fit in 64 bits, got more than 1e38 in x; correct it"),
        ({"t": {"num_layers": 10**7}},
         "t.num_layers in config.json must be at most 262144, got 10000000 in x; correct it"),
        ({"n_head": 1e300}, "n_head in config.json must be at most 262144, got 1e+300 in x; "
         "correct it"),
    ],
)  # fmt: skip
def test_settings_that_no_model_has(settings, text):
    with pytest.raises(ValueError) as error:
        check_settings(settings, "x")
    assert str(error.value) == text


def test_settings_that_models_have():
    check_settings(
        {
            "model_type": None, "architectures": None, "rope_theta": 10**9, "n_positions": 10**7,
            "vocab_size": 2**21, "num_parameters": 7 * 10**9, "num_hidden_layers": True,
            "id2label": {"0": "x"}, "pad_token_id": -1, "num_hidden_states": None,
        },
        "x",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"num_hidden_layers": 200_000}, "4,193 parts"),
        ({"hidden_size": 2**18}, "67,371,008 numbers"),
        ({"vocab_size": 10**9}, "32,000,000,000 numbers"),
        ({"intermediate_size": 10**9}, "32,000,012,320 numbers"),
    ],
)
def test_sizes_are_held_against_the_weights_before_anything_is_built(tmp_path, fields, got):
    folder = tmp_path / "m"
    save_llama(folder, num_hidden_layers=1)
    edit_config(folder, **fields)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"the sizes in config.json must be those of the weights, got a network of {got} and more "
        f"for 12 weights of 26,784 numbers in {folder}; correct config.json"
    )


def test_a_network_is_counted_in_its_own_thread_and_no_longer(tmp_path):
    save_llama(tmp_path / "m", num_hidden_layers=1)
    files = find_weights(tmp_path / "m")
    with pytest.raises(ValueError, match="a network of 4"), held_to_weights(files, "x"):
        torch.nn.ModuleList(torch.nn.Identity() for _ in range(5_000))
    torch.nn.ModuleList(torch.nn.Identity() for _ in range(5_000))
    with held_to_weights(None, "x"):
        torch.nn.ModuleList(torch.nn.Identity() for _ in range(5_000))


def test_what_the_network_itself_raises_names_the_model(tmp_path):
    folder = tmp_path / "m"
    save_llama(folder, "LlamaForCausalLM")
    edit_config(folder, num_key_value_heads=3, head_dim=8)
    with pytest.raises(ValueError, match="of another shape"):
        load_model(folder)
    model = load_model(save_mixtral(tmp_path / "x"))
    with pytest.raises(ValueError) as error:
        model.logits(torch.zeros((1, 4), dtype=torch.int64).numpy())
    assert str(error.value) == (
        f"a model must give logits for its tokens, got RuntimeError from {model.name}: selected "
        "index k out of range; correct its config.json"
    )
    assert model.name.startswith("x-")


def save_mixtral(folder):
    """A folder whose config takes 3 experts of 2."""
    network, config, fields = FAMILIES["mixtral"]
    network(config(**SMALL | fields)).save_pretrained(folder)
    edit_config(folder, num_experts_per_tok=3)
    return folder


def as_folder(path):
    path.mkdir()


def as_pipe(path):
    os.mkfifo(path)


def as_loop(path):
    path.symlink_to(path)


def as_zeros(path):
    path.symlink_to("/dev/zero")


def as_dangling(path):
    path.symlink_to("nowhere")


def as_nothing(path):
    path.touch()


NAMES = (
    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "model.safetensors.index.json",
    "adapter_config.json", "model-00001-of-00002.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_passed_over_or_refused(seeds, dog, tmp_path, name):
    wrong = []
    for make in (as_folder, as_pipe, as_loop, as_zeros, as_dangling, as_nothing):
        folder = tmp_path / make.__name__
        shutil.copytree(seeds / "llama", folder)
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        if not (outcome := dog.read(folder)).is_right:
            wrong.append((make.__name__, outcome))
    assert not wrong
