"""Weights of folders: every one comes from the files, or the model is refused."""

import json
import warnings

import numpy as np
import pytest
import torch

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.load_model import load_model
from eval.models.weights import is_harmless, shortened_names
from eval.scoring.score import score
from tests.models.tiny import (
    TEXT,
    copy_folder,
    edit_config,
    rename_weights,
    right_bpb,
    save_llama,
)

transformers = pytest.importorskip("transformers")
IS_5 = int(transformers.__version__.partition(".")[0]) >= 5  # it tells shapes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of an untied and of a tied model, the headless ones of both; and their networks."""
    root = tmp_path_factory.mktemp("saved")
    networks = {
        "whole": save_llama(root / "whole"),
        "tied": save_llama(root / "tied", tie_word_embeddings=True),
    }
    for name, network in networks.items():
        copy_folder(root / name, root / f"{name}-headless")
        network.model.save_pretrained(root / f"{name}-headless")
    return root, networks


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the untied model that a test may change."""
    return copy_folder(saved[0] / "whole", tmp_path / "model")


def check_logits(folder, network):
    """Load the model; its logits must be those of the network that was saved."""
    tokens = np.arange(2, 62).reshape(2, 30)
    with torch.no_grad():
        right = network.eval()(torch.from_numpy(tokens)).logits
    found = load_model(folder, device="cpu").logits(tokens)
    np.testing.assert_allclose(found.numpy(), right.numpy(), rtol=1e-5, atol=1e-5)


def bears(prefix):
    return lambda name: f"{prefix}.{name}"


def inside(*wrappers):
    part = ".".join(wrappers)
    return lambda name: name.replace("layers.0.", f"layers.0.{part}.")


@pytest.mark.parametrize(
    ("start", "rename"),
    [
        ("whole", bears("_orig_mod")),
        ("whole", bears("module")),
        ("whole", bears("module._orig_mod")),
        ("whole", bears("_orig_mod.module")),
        ("whole", bears("_forward_module.model")),  # lightning with DeepSpeed
        ("whole", bears("student.net")),
        ("whole", bears("_fsdp_wrapped_module")),
        ("whole", inside("_orig_mod")),
        ("whole", inside("_fsdp_wrapped_module", "_checkpoint_wrapped_module")),
        ("tied", bears("module._orig_mod")),
        ("tied-headless", bears("_orig_mod")),
    ],
)
def test_names_of_wrappers_are_read_as_those_below(saved, tmp_path, start, rename):
    root, networks = saved
    folder = copy_folder(root / start, tmp_path / start)
    rename_weights(folder, rename)
    with pytest.warns(UserWarning, match="have the names of a wrapper") as caught:
        check_logits(folder, networks[start.partition("-")[0]])
    assert len(caught) == 1


@pytest.mark.parametrize("start", ["whole", "tied-headless"])
def test_the_score_is_that_of_a_loop_in_float64(saved, tmp_path, start):
    root, networks = saved
    folder = copy_folder(root / start, tmp_path / start)
    right = right_bpb(networks[start.partition("-")[0]], folder, 24, 7)
    config = ScoreConfig(mixer="none", context=24, stride=7)
    data = Documents([Document("text", TEXT.encode())])
    assert score(load_model(folder), data, config).bpb == pytest.approx(right, abs=1e-6)
    rename_weights(folder, bears("module._orig_mod"))
    with pytest.warns(UserWarning, match="have the names of a wrapper"):
        model = load_model(folder)
    assert score(model, data, config).bpb == pytest.approx(right, abs=1e-6)


def test_a_note_shows_one_name(folder):
    rename_weights(folder, bears("_orig_mod"))
    with pytest.warns(UserWarning, match="wrapper") as caught:
        load_model(folder)
    assert str(caught[0].message) == (
        f"the weights of {folder} have the names of a wrapper; _orig_mod.lm_head.weight was read "
        "as lm_head.weight, and the others likewise"
    )


def drop(part):
    return lambda folder: rename_weights(folder, lambda name: None if part in name else name)


def rename(old, new):
    return lambda folder: rename_weights(folder, lambda name: name.replace(old, new))


def config(**fields):
    return lambda folder: edit_config(folder, **fields)


def chain(*steps):
    return lambda folder: [step(folder) for step in steps]


LAYER = (
    "model.layers.{0}.input_layernorm.weight, model.layers.{0}.mlp.down_proj.weight, "
    "model.layers.{0}.mlp.gate_proj.weight and 6 more"
)
RANDOM = "transformers would take random numbers instead"


@pytest.mark.parametrize(
    ("spoil", "faults", "mend"),
    [
        (drop("lm_head"), "1 missing (lm_head.weight)",
         f"{RANDOM}: save the whole model with save_pretrained"),
        (drop("layers.1."), f"9 missing ({LAYER.format(1)})",
         f"{RANDOM}: save the whole model with save_pretrained"),
        (drop("layers.0.self_attn.q_proj"), "1 missing (model.layers.0.self_attn.q_proj.weight)",
         f"{RANDOM}: save the whole model with save_pretrained"),
        (config(num_hidden_layers=3), f"9 missing ({LAYER.format(2)})",
         f"{RANDOM}: save the whole model with save_pretrained"),
        (config(num_hidden_layers=1), f"9 without a place ({LAYER.format(1)})",
         "transformers would ignore them: correct config.json, such as the number of layers"),
        (config(vocab_size=256),
         "2 of another shape (lm_head.weight{s}, model.embed_tokens.weight{s})",
         f"{RANDOM}: correct the sizes in config.json"),
        (rename("lm_head", "output"), "1 missing (lm_head.weight) and 1 without a place "
         "(output.weight)",
         f"{RANDOM}: correct model_type in config.json, or the names in the files"),
        # The names of a wrapper, and a weight less: the names are read, the weight is missed.
        (chain(drop("lm_head"), rename("model.", "_orig_mod.model.")),
         "1 missing (lm_head.weight)",
         f"{RANDOM}: save the whole model with save_pretrained"),
    ],
)  # fmt: skip
def test_weights_that_differ_from_the_config_are_refused(folder, spoil, faults, mend):
    spoil(folder)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    faults = faults.replace("{s}", " (257, 32) for (256, 32)" if IS_5 else "")
    assert str(error.value) == (
        f"the weights must be those that config.json describes, got {faults} in {folder}; {mend}"
    )


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "qwen2", "qwen3", "bloom", "opt"])
def test_another_model_type_is_refused(folder, model_type):
    edit_config(folder, model_type=model_type, architectures=None)
    with pytest.raises(ValueError, match=r"^the weights must be those that config.json|corrupted"):
        load_model(folder)


def test_model_type_and_architectures_must_agree(folder):
    edit_config(folder, model_type="mistral")  # weights of the same names and shapes
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"model_type and architectures must agree, got mistral and LlamaForCausalLM in {folder}; "
        "correct config.json"
    )


@pytest.mark.parametrize(
    ("model_type", "text"),
    [
        ("t5", "an encoder with a decoder; name a decoder-only model"),
        ("bart", "an encoder with a decoder; name a decoder-only model"),
        ("whisper", "an encoder with a decoder; name a decoder-only model"),
        ("clip", "which transformers has no causal language model of; name a decoder-only model"),
        ("distilbert",
         "which transformers has no causal language model of; name a decoder-only model"),
    ],
)  # fmt: skip
def test_other_kinds_of_models_are_refused(folder, model_type, text):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value).startswith(
        f"a model must be a causal language model, got {model_type} in {folder}, {text}"
    )


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq", "transformer.h.0.attn.masked_bias",
        "score.weight", "v_head.summary.weight", "mtp.layers.0.mlp.up_proj.weight",
        "model.layers.2.embed_tokens.weight", "visual.blocks.0.attn.qkv.weight",
    ],
)  # fmt: skip
def test_leftovers_that_no_logit_needs_load(saved, folder, name):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file(load_file(path) | {name: torch.zeros(2)}, path, metadata={"format": "pt"})
    edit_config(folder, num_nextn_predict_layers=1)
    check_logits(folder, saved[1]["whole"])


@pytest.mark.parametrize(
    "name",
    [
        "lm_head.bias", "model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate.weight",
        "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.q_proj.weight_scale",
        "model.layers.0.self_attn.q_proj.lora_A.weight", "head.weight",
        "model.layers.0.attn.c_attn.bias", "model.layers.2.mlp.up_proj.weight",
    ],
)  # fmt: skip
def test_weights_that_may_move_a_logit_are_not_left_out(name):
    assert not is_harmless(name, transformers.LlamaConfig(num_hidden_layers=2))


def test_a_tied_head_of_its_own_is_refused(saved, folder):
    edit_config(folder, tie_word_embeddings=True)
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value) == (
        "model.embed_tokens.weight and lm_head.weight must be equal, since the config ties them, "
        f"got different ones in {folder}; set tie_word_embeddings to false if the head is the "
        "model's own"
    )


@pytest.mark.skipif(not IS_5, reason="transformers 4 refuses them itself")
def test_integers_in_the_place_of_weights_are_refused(folder):
    from safetensors.torch import load_file, save_file

    path, name = folder / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(path)
    tensors[name] = (tensors[name] * 100).to(torch.int8)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"weights must be floating point, got integers for {name} in {folder}; add the "
        "quantization_config that they were written with, or save the model dequantized"
    )


def test_a_checkpoint_that_needs_a_library_names_it(folder):
    edit_config(folder, quantization_config={"quant_method": "awq", "bits": 4})
    with pytest.raises(ValueError, match=r"which transformers cannot load: .") as error:
        load_model(folder)
    assert "\n" not in str(error.value)


def test_what_transformers_does_not_explain_is_named_by_its_kind(folder):
    edit_config(folder, hidden_act="nope")
    with pytest.raises(ValueError) as error:
        load_model(folder)
    assert str(error.value) == (
        f"a model must be a causal language model of Hugging Face, got {folder}, which "
        "transformers cannot load: KeyError: 'nope'"
    )


def test_nan_in_the_weights_is_refused(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"^weights must be numbers, got NaN in model.norm.weight"):
        load_model(folder)


def test_the_figures_of_a_headless_folder_are_never_drawn(saved):
    for _ in range(3):
        with pytest.raises(ValueError, match="1 missing"):
            load_model(saved[0] / "whole-headless")


def test_loading_restores_the_reports_of_transformers(saved):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(saved[0] / "whole")
    with pytest.raises(ValueError, match="missing"):
        load_model(saved[0] / "whole-headless")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.parametrize(
    ("names", "shorter"),
    [
        ([], []),
        (["a.x", "b.y"], []),
        (["_orig_mod.a.x", "b.y"], [["a.x", "b.y"]]),
        (["m.a.x", "m.b.y"], [["a.x", "b.y"]]),
        (["module.m.a.x", "module.m.b.y"], [["m.a.x", "m.b.y"], ["a.x", "b.y"]]),
        (["_orig_mod.a", "a"], []),  # two weights of one name
        (["module", "module.a"], []),  # one without a name
    ],
)
def test_shorter_names(names, shorter):
    assert [list(found.values()) for found in shortened_names(names)] == shorter
