"""``--export-format compressed-tensors``: folders that transformers loads through that library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eval.cli import main
from quant import QuantizedModel
from tests.models.tiny import save_tokenizer

TEXT = "One thing after another, and so on.\n" * 20
LAYOUT = ["--export-format", "compressed-tensors"]
TOKENS = torch.arange(48).view(2, 24) % 257
SIZES = {
    "vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
# In a process of its own: what a user of the folder has. One line a folder.
LOAD = """
import sys, torch, transformers
tokens = torch.load("tokens.pt")
for folder in sys.argv[1:]:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    lost = {key: sorted(map(str, value)) for key, value in info.items() if value}
    if lost:
        sys.exit(f"{folder}: {lost}")
    with torch.no_grad():
        torch.save(model.eval()(tokens).logits, f"{folder}.pt")
"""


def make(folder, family, **changes):
    """A tiny model of Hugging Face with a tokenizer beside it."""
    hf = pytest.importorskip("transformers")
    configs = {
        "llama": lambda: hf.LlamaConfig(**SIZES | changes),
        "qwen3": lambda: hf.Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True),
        "gpt2": lambda: hf.GPT2Config(
            vocab_size=257, n_embd=32, n_layer=2, n_head=4, n_positions=64
        ),
        "mixtral": lambda: hf.MixtralConfig(**SIZES, num_local_experts=4),
        "qwen3_moe": lambda: hf.Qwen3MoeConfig(
            **SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32
        ),
    }
    torch.manual_seed(0)
    network = hf.AutoModelForCausalLM.from_config(configs[family]())
    network.save_pretrained(folder)
    save_tokenizer(folder)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, "utf-8")
    torch.save(TOKENS, "tokens.pt")
    return tmp_path


def refusal(capsys, *words):
    assert main(list(words)) == 2
    out, error = capsys.readouterr()
    assert not out
    return error.rstrip("\n").rpartition("\n")[2].removeprefix("ngrammix: error: ")


def logits(*folders):
    """The logits of each folder, loaded in a fresh process; nothing missing, nothing unexpected."""
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *folders],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [torch.load(f"{each}.pt") for each in folders]


def expected(model, quantized):
    """The logits of a model with the dequantized weights of a file."""
    import transformers as hf

    network = hf.AutoModelForCausalLM.from_pretrained(model)
    QuantizedModel.load(quantized).load_into(network)
    with torch.no_grad():
        return network.eval()(TOKENS).logits


def config_of(folder):
    return json.loads(Path(folder, "config.json").read_text("utf-8"))


EVERY = ("int8", "int4", "int4-group", "gptq-int4", "gptq-int6")


@pytest.mark.parametrize(
    ("family", "recipes"),
    [
        ("llama", ("int8", "int4-group", "gptq-int4")),
        ("gpt2", ("int8",)),
        ("mixtral", ("int8", "gptq-int4")),
        *(
            pytest.param(family, EVERY, marks=pytest.mark.slow)
            for family in ("llama", "qwen3", "gpt2", "mixtral", "qwen3_moe")
        ),
    ],
)
def test_the_library_loads_the_quantized_model(folder, capsys, family, recipes):
    """The same logits to the bit: code times scale in float32 on both sides."""
    make("model", family)
    for recipe in recipes:
        words = ["--model", "model", "--recipe", recipe, "--calibrate", "text.txt"]
        export = ["--out", f"of-{recipe}", "--export", recipe, *LAYOUT]
        assert main(["quantize", *words, *export]) == 0
    said = capsys.readouterr().err
    for recipe, found in zip(recipes, logits(*recipes), strict=True):
        assert torch.equal(found, expected("model", f"of-{recipe}/model.ngq")), recipe
    # What is packed, and what the user is told.
    config = config_of(recipes[-1]).get("quantization_config")
    if family == "gpt2":  # a Conv1D is no nn.Linear, and the head is tied
        assert config is None
        assert "dequantized, of 11: transformer.wte.weight, " in said
        return
    assert "written dequantized, of " in said
    assert ": model.embed_tokens.weight" in said
    (group,) = config["config_groups"].values()
    assert group["weights"] == {
        "num_bits": 4 if recipes[-1] == "gptq-int4" else 8, "type": "int", "symmetric": True,
        "strategy": "channel", "group_size": None, "dynamic": False,
    }  # fmt: skip
    assert config["ignore"] == (["lm_head"] if family == "qwen3" else [])
    # The file alone says the same.
    words = ["dequantize", "of-int8", "--model", "model", "--out", "again", *LAYOUT]
    assert main(words) == 0
    assert contents("again") == contents("int8")
    names = ("gptq-int4", "int8", "model")
    sizes = [Path(name, "model.safetensors").stat().st_size for name in names]
    assert sizes == sorted(sizes)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def test_other_grids_of_one_model(folder):
    """Several schemes, one scale a tensor, 2, 3 and 5 bits, kept modules, odd widths."""
    make("model", "llama", intermediate_size=45, hidden_size=40)
    Path("mine.toml").write_text(
        'name = "mine"\n'
        '[[rules]]\nnames = "*.down_proj"\nuse = {kind="scalar", bits=3}\n'
        '[[rules]]\nnames = "*.o_proj"\n'
        'use = {kind="scalar", bits=8, per="group", group_size=8}\n'
        '[[rules]]\nnames = "*.up_proj"\nuse = {kind="scalar", bits=5, per="tensor"}\n'
        '[[rules]]\nnames = "*.q_proj"\nuse = {kind="scalar", bits=2, per="group", group_size=64}\n'
        '[[rules]]\nnames = "lm_head"\nuse = "keep"\n'
        '[[rules]]\nuse = "int4"\n',
        "utf-8",
    )
    words = ["quantize", "--model", "model", "--recipe", "mine.toml", "--out", "small"]
    assert main([*words, "--export", "exported", *LAYOUT]) == 0
    config = config_of("exported")["quantization_config"]
    assert config["ignore"] == ["lm_head"]
    assert len(config["config_groups"]) == 4  # 3 bits and 4 are one
    (found,) = logits("exported")
    assert torch.equal(found, expected("model", "small/model.ngq"))


def test_in_bfloat16_the_scales_are_rounded(folder):
    """Weights differ by the rounding of scale and product, 2^-8 each; logits by a few of these."""
    make("model", "mixtral")
    assert main(["quantize", "--model", "model", "--recipe", "int8", "--out", "small"]) == 0
    words = ["dequantize", "small", "--model", "model", "--dtype", "bfloat16"]
    assert main([*words, "--out", "half", *LAYOUT]) == 0
    (found,) = logits("half")
    assert found.dtype == torch.bfloat16
    right = expected("model", "small/model.ngq")
    assert (found.float() - right).abs().max() < 0.05 * right.abs().max()


@pytest.mark.parametrize(
    ("use", "text"),
    [
        ('"nf4"', "got lloyd-max"),
        ('"pq"', "got product"),
        ('{kind="scalar", bits=4, per="column"}', "got scalar bits=4 per=column"),
        ('{kind="scalar", bits=4, symmetric=false}', "got scalar bits=4 symmetric=False"),
        ('{kind="scalar", bits=4, per="group", group_size=24}', "got groups of 24 in 32 columns"),
        ('{kind="gptq", static_groups=false, inner={kind="scalar", per="group", group_size=8}}',
         "got groups in the order of GPTQ"),
    ],
)  # fmt: skip
def test_levels_that_the_layout_does_not_hold(folder, capsys, monkeypatch, use, text):
    make("model", "llama")
    Path("mine.toml").write_text(f'name = "mine"\n[[rules]]\nuse = {use}\n', "utf-8")
    monkeypatch.setattr("eval.commands.quantize.calibrate_for", None)  # before a calibration
    words = ["quantize", "--model", "model", "--recipe", "mine.toml", "--out", "small"]
    error = refusal(capsys, *words, "--export", "exported", *LAYOUT)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert error.startswith(
        "compressed-tensors must have even symmetric levels with a scale for each tensor, row, or "
        f"group that divides the columns, {text}"
    )
    assert error.endswith(
        f" for {name}; quantize it otherwise, as with --rule {name}=int8, or export it dequantized"
    )
    assert not Path("small/model.ngq").exists()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    if "gptq" not in use:  # an existing file is refused too
        assert main(words) == 0
        capsys.readouterr()
        words = ["dequantize", "small", "--model", "model", "--out", "out", *LAYOUT]
        assert refusal(capsys, *words) == error
        assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--rule", "*.down_proj=int4"], "got 2 ways"),
        (["--keep", "*.0.mlp.experts.down_proj"],
         "got model.layers.0.mlp.experts.down_proj not quantized"),
    ],
)  # fmt: skip
def test_experts_are_packed_in_one_way(folder, capsys, words, text):
    make("model", "mixtral")
    words = ["quantize", "--model", "model", "--recipe", "int8", "--out", "small", *words]
    assert main(words) == 0
    capsys.readouterr()
    out = ["--model", "model", "--out", "out", *LAYOUT]
    assert refusal(capsys, "dequantize", "small", *out) == (
        f"compressed-tensors must have all experts quantized in the same way, {text}; give all of "
        "them one quantizer, or export them dequantized"
    )
    assert not Path("out").exists()


def test_scales_that_a_dtype_lacks(folder, capsys):
    import transformers as hf

    make("model", "llama")
    network = hf.AutoModelForCausalLM.from_pretrained("model")
    with torch.no_grad():
        network.lm_head.weight *= 1e-4
    network.save_pretrained("model")
    assert main(["quantize", "--model", "model", "--recipe", "int8", "--out", "small"]) == 0
    capsys.readouterr()
    words = ["dequantize", "small", "--model", "model", "--dtype", "float16", "--out", "out"]
    error = refusal(capsys, *words, *LAYOUT)
    assert error.startswith(
        "lm_head.weight must have scales that the dtype of the model holds, got "
    )
    assert error.endswith(" with torch.float16; export it in float32 or bfloat16")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["quantize", "--out", "small"], "needs a folder, got none; name one with --export"),
        (["quantize", "--out", "small", "--export", "out"],
         "needs a model of Hugging Face, got demo; export it dequantized"),
        (["dequantize", "small", "--out", "out"],
         "needs a model of Hugging Face, got none; name it with --model"),
    ],
)  # fmt: skip
def test_what_needs_more(folder, capsys, words, text):
    error = refusal(capsys, *words, *LAYOUT)
    assert error == f"--export-format compressed-tensors {text}"
    assert not Path("small").exists()
