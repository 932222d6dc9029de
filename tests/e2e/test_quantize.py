"""``ngrammix quantize``, ``score --quantized`` and ``pipeline`` as a user types them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eval.cli import main
from eval.commands import quantize
from eval.commands.quantize import load_calibration
from eval.config import QuantizeConfig
from eval.models.load_model import load_demo
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from quant import QuantizedModel

TEXT = "def f(x):\n    return x + 1\n\n" * 60


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text(TEXT, "utf-8")
    Path("plain_models.py").write_text(
        "import numpy as np\n"
        "from eval.models.wrap import wrap\n"
        "from eval.tokenizers.byte_tokenizer import ByteTokenizer\n"
        "def plain():\n"
        "    return wrap(lambda t: np.zeros((*t.shape, 257), np.float32), context=8,\n"
        "                tokenizer=ByteTokenizer(256), name='plain')\n",
        "utf-8",
    )
    return tmp_path


def run(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_quantize_and_then_score(folder, capsys):
    before = run(capsys, "score", "--data", "code.py")
    arguments = ["quantize", "--recipe", "int6", "--codec", "zstd", "--out", "small"]
    made = run(capsys, *arguments)
    size = Path("small/model.ngq").stat().st_size
    assert made["file_bytes"] == size
    assert made["file_bits_per_weight"] < made["bits_per_weight"]
    assert json.loads(Path("small/quantize.json").read_text("utf-8")) == made
    quantized = QuantizedModel.load("small/model.ngq")
    assert set(quantized.tensors) == {tensor["name"] for tensor in made["tensors"]}
    after = run(capsys, "score", "--data", "code.py", "--quantized", "small")
    assert after["model"].startswith(before["model"] + "+quantized-")
    assert after["bpb_model"] == pytest.approx(before["bpb_model"], abs=0.1)
    assert after["bpb_model"] != before["bpb_model"]
    assert main([*arguments, "--overwrite"]) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[-1] == f"small/model.ngq: {size:,} bytes"


def test_the_pipeline_says_what_is_lost_and_recovered(folder, capsys):
    arguments = ["pipeline", "--data", "code.py", "--recipe", "int6", "gptq-int4"]
    arguments += ["--calibration-tokens", "300", "--context", "128", "--codec", "zstd"]
    result = run(capsys, *arguments, "--out", "out")
    plain, int6, int4 = result["rows"]
    assert (plain["recipe"], int6["recipe"], int4["recipe"]) == ("as it is", "int6", "gptq-int4")
    assert plain["bits_per_weight"] == 32.0
    assert plain["bpb_increase_model"] == plain["bpb_increase"] == 0.0
    assert plain["recovered"] is None
    for row in (int6, int4):
        assert row["file_bytes"] == Path("out", f"{row['recipe']}.ngq").stat().st_size
        assert row["bpb_increase_model"] == pytest.approx(row["bpb_model"] - plain["bpb_model"])
        assert row["bpb_increase"] == pytest.approx(row["bpb"] - plain["bpb"])
        assert row["error"] > 0
    assert int4["recovered"] == pytest.approx(1 - int4["bpb_increase"] / int4["bpb_increase_model"])
    scored = run(capsys, "score", "--data", "code.py", "--context", "128",
                 "--quantized", "out/gptq-int4.ngq")  # fmt: skip
    assert scored["bpb"] == pytest.approx(int4["bpb"], rel=1e-12)
    assert json.loads(Path("out/pipeline.json").read_text("utf-8")) == result
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "bytes", "bits", "error", "BPB", "increase", "+", "cache", "increase", "recovered"
    ]  # fmt: skip
    assert lines[-1] == f"{result['signature']} = {plain['bpb']:.4f}"


def test_data_calibrate_too(folder, capsys):
    arguments = ["--recipe", "gptq-int6", "--calibrate", "code.py", "--calibration-tokens", "500"]
    made = run(capsys, "quantize", *arguments, "--codec", "none", "--out", "small")
    assert sum(tensor["error"] or 0.0 for tensor in made["tensors"]) > 0


def test_batches_of_calibration_stay_within_the_memory_of_logits(folder):
    model = load_demo()
    sizes = []
    for limit in (None, "1MiB"):
        config = QuantizeConfig(
            calibrate=("code.py",), context=64, calibration_tokens=512, logits_memory=limit
        )
        batches = quantize.read_batches(config, model, model.tokenizer)
        sizes.append([batch.size * model.vocab_size * 4 for batch in batches])
    assert sum(sizes[0]) == sum(sizes[1])
    assert max(sizes[0]) > 1 << 20 >= max(sizes[1])


def test_a_calibration_without_the_memory_is_one_line(folder, capsys, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(quantize, "calibrate_for_recipes", fail)
    arguments = ["quantize", "--recipe", "gptq-int6", "--calibrate", "code.py", "--out", "o"]
    assert main([*arguments, "--context", "64", "--calibration-tokens", "192"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: a calibration batch must fit in memory, got up to 192 tokens in one, "
        "with 1,024 logits each and their gradients; pass a smaller --calibration-batch, "
        "--context, --logits-memory or --calibration-tokens\n"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["quantize", "--recipe", "int8"],
         "--out must name a folder for the file, got none; name one"),
        (["quantize", "--recipe", "int8", "int6", "--out", "o"],
         "--recipe must be one recipe, got int8, int6; ngrammix pipeline takes several"),
        (["quantize", "--model", "none", "--recipe", "int8", "--out", "o"],
         "--model must name a model to quantize, got none; name one"),
        (["quantize", "--model", "plain_models:plain", "--recipe", "int8", "--out", "o"],
         "weights need a torch module, got none in plain; let the factory return the module"),
        (["quantize", "--recipe", "int8", "--calibrate", "missing", "--out", "o"],
         "data must be a file or a folder, got missing, which is missing; check the path, or pass "
         "--download if it is a data set of the Hugging Face Hub"),
        (["score", "--data", "code.py", "--quantized", "code.py"],
         "code.py: compressed data must begin with NGXQUANT, got b'def f(x)'; pass what compress "
         "or save made"),
        (["score", "--data", "code.py", "--quantized", "missing"],
         "quantized tensors must be a file, got missing; check the path"),
        (["score", "--data", "code.py", "--model", "none", "--quantized", "small"],
         "--quantized needs a model, got --model none; leave it out"),
        (["pipeline", "--data", "code.py", "--model", "none"],
         "--model must name a model to quantize, got none; name one"),
    ],
)  # fmt: skip
def test_refusals(folder, capsys, arguments, text):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    error = re.sub("plain-[0-9a-f]{8}", "plain", captured.err)  # the hash of its code
    assert (captured.out, error) == ("", f"ngrammix: error: {text}\n")


def test_weights_that_lie_on_a_grid_already_are_kept_by_it(folder, capsys):
    """The embedded model's weights are of 8 bits in their file."""
    before = run(capsys, "score", "--data", "code.py")
    run(capsys, "quantize", "--recipe", "int8", "--codec", "zstd", "--out", "small")
    after = run(capsys, "score", "--data", "code.py", "--quantized", "small")
    assert after["bits_model"] == before["bits_model"]


def test_an_unknown_recipe_is_named(folder, capsys):
    assert main(["quantize", "--recipe", "int9", "--out", "o"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("ngrammix: error: recipe must be one of int8, int6, ")
    assert text.endswith(", or a dict of rules, got 'int9'; did you mean int8?\n")


def test_a_column_of_the_data_is_none_of_calibration_text(folder):
    config = QuantizeConfig(data=("rows.jsonl",), calibrate=("code.py",), column="content")
    assert load_calibration(config, ByteTokenizer()).name == "code.py"
    with pytest.raises(ValueError, match=r"^column applies to tables, got content for code\.py, "):
        load_calibration(replace(config, data=()), ByteTokenizer())
