"""``ngrammix quantize --export`` and ``ngrammix dequantize`` as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model

from eval.cli import main
from eval.models import export
from eval.models.export import export_tensors
from quant import QuantizedModel, quantize_model
from tests.models.tiny import save_tokenizer

SCORE = ["score", "--data", "text.txt", "--json"]
QUANTIZE = ["quantize", "--recipe", "int4"]


def make(folder, family):
    """A tiny model of Hugging Face with a tokenizer beside it."""
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64,
    }  # fmt: skip
    configs = {
        "llama": lambda: hf.LlamaConfig(**sizes, tie_word_embeddings=True),
        "mixtral": lambda: hf.MixtralConfig(**sizes, num_local_experts=4),
        "gpt2": lambda: hf.GPT2Config(
            vocab_size=257, n_embd=32, n_layer=2, n_head=4, n_positions=64
        ),
    }
    network = hf.AutoModelForCausalLM.from_config(configs[family]())
    network.save_pretrained(folder)
    save_tokenizer(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("One thing after another, and so on.\n" * 20, "utf-8")
    return tmp_path


def run(capsys, *words):
    assert main(list(words)) == 0
    return capsys.readouterr().out


def refusal(capsys, *words):
    assert main(list(words)) == 2
    out, error = capsys.readouterr()
    assert not out
    return error.removeprefix("ngrammix: error: ").rstrip("\n")


def contents(folder):
    """The bytes of each file of a folder, by name."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_an_export_is_the_quantized_model(folder, capsys, family):
    import transformers as hf

    make(folder / "model", family)
    run(capsys, *QUANTIZE, "--model", "model", "--out", "small", "--export", "exported")
    # Loaded by transformers: each weight has its place, and the logits are the same to the bit.
    loaded, info = hf.AutoModelForCausalLM.from_pretrained("exported", output_loading_info=True)
    assert not any(info.values()), info
    expected = hf.AutoModelForCausalLM.from_pretrained("model")
    QuantizedModel.load("small/model.ngq").load_into(expected)
    tokens = torch.arange(48).view(2, 24) % 257
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, expected.eval()(tokens).logits)
    # Scored here: the figures of the quantized file.
    of_file = json.loads(run(capsys, *SCORE, "--model", "model", "--quantized", "small"))
    of_folder = json.loads(run(capsys, *SCORE, "--model", "exported"))
    assert of_folder["bpb_model"] == of_file["bpb_model"]
    # Config and tokenizer are those of the model.
    config, before = (
        json.loads(Path(name, "config.json").read_text("utf-8")) for name in ("exported", "model")
    )
    assert config | {"dtype": "float32"} == before | {"dtype": "float32"}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert contents("exported")[name] == contents("model")[name]
    # The file alone says the same.
    run(capsys, "dequantize", "small", "--model", "model", "--out", "again")
    assert contents("again") == contents("exported")


def test_a_model_is_loaded_with_the_weights_of_a_file(folder, capsys):
    from eval import load_model as load

    make(folder / "model", "llama")
    run(capsys, *QUANTIZE, "--model", "model", "--out", "small")
    expected = load("model").network
    QuantizedModel.load("small/model.ngq").load_into(expected)
    for path in ("small", Path("small/model.ngq")):
        model = load("model", quantized=path)
        assert model.name.startswith(load("model").name + "+quantized-")
        for one, other in zip(model.network.parameters(), expected.parameters(), strict=True):
            assert torch.equal(one, other)
    with pytest.raises(ValueError, match="nowhere"):
        load("model", quantized="nowhere")
    # The demo that others use keeps its weights.
    run(capsys, "quantize", "--recipe", "int4", "--out", "demo")
    before = {name: one.clone() for name, one in load("demo").network.state_dict().items()}
    assert load("demo", quantized="demo").name != load("demo").name
    for name, one in load("demo").network.state_dict().items():
        assert torch.equal(one, before[name])


def test_the_dtype_of_an_export(folder, capsys):
    import transformers as hf

    make(folder / "model", "llama")
    run(capsys, *QUANTIZE, "--model", "model", "--out", "small")
    words = ["dequantize", "small/model.ngq", "--dtype", "bf16"]
    run(capsys, *words, "--model", "model", "--out", "half")
    assert hf.AutoModelForCausalLM.from_pretrained("half").dtype == torch.bfloat16
    run(capsys, *words, "--out", "tensors")
    tensors = load_file("tensors/model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_tensors_alone(folder, capsys):
    """Of a model that is none of Hugging Face: tied tensors stay tied."""
    from eval.models.load_model import load_demo

    said = run(capsys, "quantize", "--recipe", "int4", "--out", "small", "--export", "exported")
    assert said.splitlines()[-1].startswith("small/model.ngq: ")
    assert list(contents("exported")) == ["model.safetensors"]
    quantized = QuantizedModel.load("small/model.ngq")
    with safe_open("exported/model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", **quantized.aliases}
        assert set(file.keys()) == set(quantized.tensors)
    one, other = (load_demo.__wrapped__().network for _ in range(2))
    load_model(one, "exported/model.safetensors")
    quantized.load_into(other)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
    said = run(capsys, "dequantize", "small", "--out", "again")
    assert said == f"again: {quantized.n_weights:,} weights of small/model.ngq\n"
    assert contents("again") == contents("exported")


def test_an_export_replaces_another_as_a_whole(folder, capsys, monkeypatch):
    make(folder / "model", "llama")
    monkeypatch.setattr(export, "SHARD", "40KB")
    words = [*QUANTIZE, "--model", "model", "--out", "small", "--export", "exported"]
    run(capsys, *words)
    names = set(contents("exported"))
    assert "model.safetensors.index.json" in names
    assert len([name for name in names if name.endswith(".safetensors")]) > 1
    Path("exported/notes.txt").write_text("mine", "utf-8")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    error = refusal(capsys, "dequantize", "small", "--out", "exported")
    assert error.startswith("an export must have an empty folder, got config.json, ")
    assert error.endswith(
        " in exported; choose another folder, or replace an earlier export with --overwrite"
    )
    run(capsys, *words, "--overwrite")
    now = set(contents("exported"))
    assert "notes.txt" in now
    assert "model.safetensors.index.json" not in now
    assert [name for name in now if name.endswith(".safetensors")] == ["model.safetensors"]


def test_an_export_is_refused_before_any_work(folder, capsys, monkeypatch):
    Path("taken").mkdir()
    Path("taken/mine").write_text("", "utf-8")
    monkeypatch.setattr("eval.commands.quantize.load_model_and_tokenizer", None)
    words = ["quantize", "--recipe", "int4", "--out", "small", "--export", "taken"]
    assert refusal(capsys, *words).startswith("an export must have an empty folder, got mine in")
    Path("file").write_text("", "utf-8")
    assert "--export" in refusal(capsys, *words[:-1], "file")
    assert not Path("small").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["missing.ngq"], "missing.ngq"),
        (["text.txt"], "text.txt"),
        (["small", "--model", "demo"], "--model must be a folder of Hugging Face or a name on the "
         "Hub, got demo; leave it out to write the tensors alone"),
        (["small", "--model", "package:factory"], "got package:factory; leave it out"),
        (["small", "--model", "nowhere"], "nowhere"),
        (["small", "--dtype", "int3"], "int3"),
    ],
)  # fmt: skip
def test_what_cannot_be_dequantized(folder, capsys, words, text):
    quantize_model(torch.nn.Linear(32, 32), "int4").save(folder / "model.ngq")
    (folder / "small").mkdir()
    (folder / "model.ngq").rename(folder / "small" / "model.ngq")
    error = refusal(capsys, "dequantize", *words, "--out", "out")
    assert text in error
    assert "\n" not in error
    assert not Path("out").exists()


def test_the_wrong_model_is_refused(folder, capsys):
    make(folder / "model", "llama")
    make(folder / "other", "gpt2")
    run(capsys, *QUANTIZE, "--model", "model", "--out", "small")
    error = refusal(capsys, "dequantize", "small", "--model", "other", "--out", "out")
    assert error.startswith("the model must have the tensors that were quantized, got differing ")
    assert not Path("out").exists()


def test_weights_that_a_dtype_cannot_hold(folder):
    network = torch.nn.Linear(32, 32)
    with torch.no_grad():
        network.weight *= 1e7
    quantized = quantize_model(network, "int4")
    with pytest.raises(ValueError, match=r"weight must hold weights up to .* in which they are"):
        export_tensors(quantized, folder, torch.float16)
    assert list(folder.iterdir()) == [folder / "text.txt"]


@pytest.mark.parametrize("place", ["save_file", "put_in_place"])
def test_nothing_is_left_of_an_export_that_fails(folder, monkeypatch, place):
    """A full disk, while the weights are written or while they take their names."""
    quantized = quantize_model(torch.nn.Linear(32, 32), "int4")
    (folder / "model.safetensors").write_bytes(b"of an earlier export")

    def full(*_):
        raise OSError(28, "No space left on device")

    owner = "safetensors.torch" if place == "save_file" else "eval.models.export"
    monkeypatch.setattr(f"{owner}.{place}", full)
    with pytest.raises((ValueError, OSError), match="No space left"):
        export_tensors(quantized, folder)
    assert contents(folder)["model.safetensors"] == b"of an earlier export"
    assert not [name for name in contents(folder) if name.startswith(".export")]


def test_what_a_killed_export_has_left_is_removed(folder):
    out = folder / "out"
    (out / ".export-dead").mkdir(parents=True)
    (out / ".export-dead" / "model.safetensors").write_bytes(b"half")
    for name in ("model-00001-of-00002.safetensors.part", "config.json.part"):
        (out / name).write_bytes(b"half")
    (out / "mine.part").write_bytes(b"mine")
    export_tensors(quantize_model(torch.nn.Linear(32, 32), "int4"), out)
    assert list(contents(out)) == ["mine.part", "model.safetensors"]


def test_dequantized_tensors_are_those_of_each(folder):
    model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.LayerNorm(32))
    quantized = quantize_model(model, "int4")
    tensors = quantized.dequantize()
    assert tensors.keys() == model.state_dict().keys()
    expected = quantized.tensors["0.weight"].dequantize()
    assert np.array_equal(tensors["0.weight"].numpy(), expected)
