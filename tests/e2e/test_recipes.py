"""Recipe files, --keep, --rule, --strict and --calibration-batch as a user types them."""

import json
from pathlib import Path

import pytest

from eval.cli import main
from eval.commands.recipes import recipes_of
from eval.config import QuantizeConfig, make_config
from quant import RECIPES, Recipe, load_recipe
from tests.models.tiny import TEXT, save_llama

MINE = """
name = "mine"
[[rules]]
names = "embedding"
use = "int8"
[[rules]]
names = "blocks.*.qkv"
use = {kind = "lloyd-max", k = 4}
[[rules]]
use = "int6"
"""
# An LSTM, whose weights calibration does not reach.
FACTORY = """
import torch
from torch import nn
from eval.models.wrap import wrap
from eval.tokenizers.byte_tokenizer import ByteTokenizer
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wte, self.lstm = nn.Embedding(257, 16), nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 257)
    def forward(self, tokens):
        return self.head(self.lstm(self.wte(tokens))[0])
def make():
    return wrap(Net(), context=16, tokenizer=ByteTokenizer(256), name="net")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text("def f(x):\n    return x + 1\n\n" * 9, "utf-8")
    Path("mine.toml").write_text(MINE)
    Path("lstm_model.py").write_text(FACTORY)
    return tmp_path


def run(capsys, *arguments):
    assert main([*arguments, "--codec", "none", "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments):
    assert main([*arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert captured.err.startswith("ngrammix: error: ")
    return captured.err.removeprefix("ngrammix: error: ").rstrip("\n")


def used(result):
    return {tensor["name"]: tensor["quantizer"] for tensor in result["tensors"]}


@pytest.mark.parametrize("name", ["mine.toml", "mine.json", "./mine"])
def test_a_file_of_rules(folder, capsys, name):
    recipe = load_recipe("mine.toml")
    Path("mine.json").write_text(json.dumps(recipe.to_json()))
    Path("mine").write_text(MINE)
    result = run(capsys, "quantize", "--recipe", name, "--out", "small")
    quantizers = used(result)
    assert quantizers["embedding.weight"] == "scalar bits=8"
    assert quantizers["blocks.3.qkv.weight"] == "lloyd-max k=4"
    assert quantizers["blocks.3.mlp_in.weight"] == "scalar clip=sd:12.85"
    values = {key: result[key] for key in ("sequential", "rules")} | {"name": result["recipe"]}
    assert Recipe.from_json(values) == recipe
    assert json.loads(Path("small/quantize.json").read_text()) == result


def test_keep_comes_before_rules_and_rules_before_the_recipe(folder, capsys):
    arguments = ["--recipe", "mine.toml", "--keep", "blocks.0", "blocks.1.*", "--rule",
                 "*.qkv=int4", "embedding = float16", "--rule", "blocks.3.mlp_in=keep"]  # fmt: skip
    quantizers = used(run(capsys, "quantize", *arguments, "--out", "small"))
    for name, quantizer in quantizers.items():
        if name.startswith(("blocks.0", "blocks.1", "blocks.3.mlp_in")):
            assert quantizer == "keep"
    assert quantizers["blocks.2.qkv.weight"] == "scalar bits=4 clip=mse"
    assert quantizers["blocks.2.mlp_in.weight"] == "scalar clip=sd:12.85"
    assert quantizers["embedding.weight"] == "float16"
    assert "--rule" not in json.loads(Path("small/quantize.json").read_text())


def test_a_toml_file_of_options_has_them_too(folder, capsys):
    Path("run.toml").write_text(
        'recipe = ["mine.toml"]\nkeep = ["blocks.0"]\nrule = ["*.qkv=int4"]\nstrict = true\n'
        'calibration_batch = 2\nout = "small"\nseed = 3\n'
    )
    result = run(capsys, "quantize", "--config", "run.toml")
    assert used(result)["blocks.2.qkv.weight"] == "scalar bits=4 clip=mse"
    assert (result["seed"], result["calibration_batch"]) == (3, 2)
    config = make_config(QuantizeConfig, {}, "run.toml")
    assert config == QuantizeConfig(
        recipe=("mine.toml",), keep=("blocks.0",), rule=("*.qkv=int4",), strict=True,
        calibration_batch=2, out="small", seed=3,
    )  # fmt: skip
    over = run(capsys, "quantize", "--config", "run.toml", "--recipe", "int8", "--out", "o")
    assert (over["recipe"], over["overrides"]) == ("int8", result["overrides"])


def test_the_pipeline_takes_them_for_every_recipe(folder, capsys):
    arguments = ["pipeline", "--data", "code.py", "--recipe", "int8", "mine.toml", "--keep"]
    result = run(capsys, *arguments, "blocks", "--out", "out", "--context", "64")
    assert [row["recipe"] for row in result["rows"]] == ["as it is", "int8", "mine"]
    recipes = result["conditions"]["recipes"]
    assert [recipe["recipe"] for recipe in recipes] == ["int8", "mine"]
    kept = [{"names": "blocks", "role": "every", "use": "keep"}]
    assert all(recipe["overrides"] == kept for recipe in recipes)
    assert Path("out/mine.ngq").stat().st_size == result["rows"][2]["file_bytes"]


def test_a_tied_head_of_a_hugging_face_model(folder, capsys):
    pytest.importorskip("transformers")
    save_llama(folder / "m", tie_word_embeddings=True)
    Path("a.txt").write_text(TEXT)
    for names in ("lm_head", "model.embed_tokens"):
        arguments = ["--model", "m", "--recipe", "int4", "--rule", f"{names}=int8", "--strict"]
        quantizers = used(run(capsys, "quantize", *arguments, "--out", names))
        assert quantizers["model.embed_tokens.weight"] == "scalar bits=8"
        assert "lm_head.weight" not in quantizers
    text = refusal(capsys, "quantize", "--model", "m", "--keep", "lm_haed", "--recipe", "int4",
                   "--out", "o")  # fmt: skip
    assert text == (
        "a rule must take a tensor, got 'lm_haed', which takes none: no parameter has that name; "
        "did you mean lm_head?"
    )
    assert not Path("o/model.ngq").exists()


CALIBRATED = ("--model", "lstm_model:make", "--calibrate", "code.py", "--recipe", "gptq-int4")


def test_what_has_no_calibration_is_counted_and_with_strict_an_error(folder, capsys):
    assert main(["quantize", *CALIBRATED, "--out", "small", "--codec", "none"]) == 0
    count = "not calibrated, and rounded to nearest: 2 of 7 tensors"
    assert count in capsys.readouterr().out.splitlines()
    result = json.loads(Path("small/quantize.json").read_text())
    assert result["uncalibrated"] == 2
    pipeline = ["pipeline", "--data", "code.py", *CALIBRATED]
    assert main([*pipeline, "--codec", "none"]) == 0
    line = "gptq-int4: 2 tensors were not calibrated, and rounded to nearest"
    assert line in capsys.readouterr().out.splitlines()
    row = run(capsys, *pipeline)["rows"][1]
    note = "rounded to nearest: calibration saw no matrix product with it"
    assert (row["uncalibrated"], row["notes"][0]) == (2, f"lstm.weight_ih_l0: {note}")
    for command in (["quantize", *CALIBRATED], pipeline):
        assert main([*command, "--strict", "--out", "o"]) == 2
        error = capsys.readouterr().err
        assert error == (
            "ngrammix: error: strict needs a Hessian for each weight whose quantizer uses one, got "
            "none for lstm.weight_ih_l0 and 1 more; calibrate with batches that use it, or give it "
            "another rule in the recipe\n"
        )
        assert not Path("o").exists()
    kept = run(capsys, "quantize", *CALIBRATED, "--strict", "--rule", "lstm=int8", "--out", "o")
    assert kept["uncalibrated"] == 0


@pytest.mark.parametrize("source", [[], ["--calibrate", "code.py"]])
def test_windows_of_a_calibration_batch(folder, capsys, monkeypatch, source):
    from eval.commands import quantize

    sizes, calibrate = [], quantize.calibrate_for_recipes
    monkeypatch.setattr(
        quantize,
        "calibrate_for_recipes",
        lambda model, batches, *recipes, **options: (
            sizes.append([batch.shape[0] for batch in batches]),
            calibrate(model, batches, *recipes, **options),
        )[1],
    )
    for n in ("1", "3"):
        arguments = ["--recipe", "gptq-int8", "--context", "16", "--calibration-tokens", "64"]
        run(capsys, "quantize", *arguments, *source, "--calibration-batch", n, "--out", n)
    assert [max(each) for each in sizes] == [1, 3]
    assert sum(sizes[0]) == sum(sizes[1]) == 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rule", "int8"], "--rule must be PATTERN=QUANTIZER, such as lm_head=int8, got 'int8'; "
         "correct it"),
        (["--rule", "a=int9"], "--rule a=int9: use must be one of keep, float16, int8, int6, int4, "
         "int4-group, gptq-int8, gptq-int6, gptq-int4, gptq-int4-group, lloyd-4bit, nf4, residual, "
         "pq, or the settings of a quantizer, got 'int9'; did you mean int8?"),
        (["--rule", "=int8"], "--rule =int8: names must be a pattern of 1..1000 printable "
         "characters, got ''; * matches all names"),
        (["--keep", ""], "--keep : names must be a pattern of 1..1000 printable characters, got "
         "''; * matches all names"),
        (["--keep", "a", "--rule", "a=int8"], "--keep and --rule must have a pattern once, got 'a' "
         "twice; leave one out"),
        (["--recipe", "none.toml"], "a recipe must be a file, got none.toml; check the path"),
        (["--recipe", "cut.toml"], "cut.toml: rule 1: a rule may have only names, role, use, got "
         "'user'; did you mean use?"),
        (["--calibration-batch", "0"], "calibration_batch must be >= 1, got 0; leave it out for "
         "the default"),
    ],
)  # fmt: skip
def test_refusals_before_a_model_is_loaded(folder, capsys, arguments, text):
    Path("cut.toml").write_text('name = "x"\n[[rules]]\nuser = "int8"\n')
    for command in (["quantize", "--out", "o"], ["pipeline", "--data", "code.py", "--out", "o"]):
        assert refusal(capsys, *command, "--model", "missing:make", *arguments) == text
    assert not Path("o").exists()


def test_two_recipes_of_one_name(folder, capsys):
    Path("twin.toml").write_text(MINE.replace("mine", "INT8"))
    text = refusal(capsys, "pipeline", "--data", "code.py", "--recipe", "int8", "twin.toml")
    assert text == "recipes must have different names, got INT8 twice; files are called after them"


def test_in_python(folder):
    config = QuantizeConfig(recipe=("mine.toml",), keep=("blocks.0",), rule=("a=b=int4",))
    (recipe,) = recipes_of(config)
    assert recipe == load_recipe("mine.toml").override({"blocks.0": "keep", "a=b": "int4"})
    assert recipes_of(QuantizeConfig()) == [RECIPES["gptq-int6"]]
