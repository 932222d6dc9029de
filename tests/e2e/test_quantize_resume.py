"""``--checkpoint`` of ``ngrammix quantize`` and ``pipeline``, as a user types it."""

import json
from pathlib import Path

import pytest

from eval.cli import main
from eval.commands import quantize
from quant.models import checkpoint as checkpoints
from quant.models.calibrate_for_recipes import calibrate_for_recipes

TEXT = "def f(x):\n    return x + 1\n\n" * 60
OPTIONS = ["--calibrate", "code.py", "--calibration-tokens", "300", "--context", "128",
           "--codec", "zstd", "--recipe", "gptq-int4"]  # fmt: skip
MODEL = ["--model", "tests.faults.scenes:tiny_network", "--tokenizer", "bytes", "--bos", "256"]
QUANTIZE = ["quantize", *OPTIONS, *MODEL]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("code.py").write_text(TEXT, "utf-8")


def stop(*arguments):
    raise ValueError("stopped, in the place of a kill")


def without_seconds(report):
    values = json.loads(Path(report).read_text("utf-8"))
    return values | {"tensors": [tensor | {"seconds": 0} for tensor in values["tensors"]]}


def test_a_run_goes_on_with_its_checkpoint(monkeypatch, capsys):
    assert main([*QUANTIZE, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        save = checkpoints.Checkpoint.save
        patch.setattr(
            checkpoints.Checkpoint, "save",
            lambda *arguments: stop() if any(Path("kept").glob("weight-*")) else save(*arguments),
        )  # fmt: skip
        assert main([*QUANTIZE, "--out", "out", "--checkpoint", "kept"]) == 2
    assert len(list(Path("kept").glob("weight-*"))) == 1
    assert main([*QUANTIZE, "--out", "out", "--checkpoint", "kept"]) == 0
    assert Path("out/model.ngq").read_bytes() == Path("whole/model.ngq").read_bytes()
    assert without_seconds("out/quantize.json") == without_seconds("whole/quantize.json")
    # What a killed run left of its results is no other run's.
    Path("out/quantize.json").unlink()
    Path("out/model.ngq").rename("out/model.ngq.part")
    assert main([*QUANTIZE, "--out", "out", "--checkpoint", "kept"]) == 0
    assert Path("out/model.ngq").read_bytes() == Path("whole/model.ngq").read_bytes()


def test_another_run_is_refused_in_one_line_before_it_is_calibrated(capsys, monkeypatch):
    assert main([*QUANTIZE, "--out", "out", "--checkpoint", "kept"]) == 0
    before = Path("out/model.ngq").read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(quantize, "calibrate_for_recipes", stop)
    again = [*QUANTIZE, "--out", "out", "--checkpoint", "kept", "--calibration-tokens", "200"]
    assert main(again) == 2
    error = capsys.readouterr().err
    assert error.startswith("ngrammix: error: a run must go on with the calibration batches it")
    assert error.endswith("number of tokens, context and seed, or delete the checkpoint\n")
    assert error.count("\n") == 1
    assert Path("out/model.ngq").read_bytes() == before


def test_a_pipeline_of_another_run_is_refused_before_it_scores(capsys, monkeypatch):
    def run(recipe, *options):
        return main(["pipeline", *MODEL, "--data", "code.py", "--context", "64", "--recipe", recipe,
                     "--checkpoint", "kept", "--out", "out", "--overwrite", *options])  # fmt: skip

    for recipe in ("int8", "gptq-int8"):
        assert run(recipe, "--calibration-tokens", "64") == 0
    monkeypatch.setattr("eval.commands.pipeline.evaluate", stop)
    capsys.readouterr()
    assert run("gptq-int8", "--calibration-tokens", "32") == 2
    assert "must go on with the calibration batches it" in capsys.readouterr().err
    Path("code.py").write_text("x = 1\n" * 40, "utf-8")
    assert run("int8", "--calibrate", "code.py") == 2
    assert "must go on with the calibration batches it" in capsys.readouterr().err


def test_a_checkpoint_that_is_a_file_is_refused_before_the_model_is_loaded(capsys):
    arguments = ["quantize", *OPTIONS, "--model", "no.such:model", "--out", "o"]
    assert main([*arguments, "--checkpoint", "code.py"]) == 2
    assert "--checkpoint must be a folder, got the file code.py" in capsys.readouterr().err


def test_a_pipeline_keeps_the_weights_of_each_recipe(capsys):
    arguments = ["pipeline", *OPTIONS, "int8", *MODEL, "--data", "code.py", "--order", "2",
                 "--checkpoint", "kept", "--out", "out", "--json"]  # fmt: skip
    assert main(arguments) == 0
    first = capsys.readouterr().out
    assert sorted(path.name for path in Path("kept").iterdir()) == ["gptq-int4", "int8"]
    files = {path: path.read_bytes() for path in Path("out").glob("*.ngq")}
    assert main(arguments) == 0
    assert capsys.readouterr().out == first
    assert {path: path.read_bytes() for path in Path("out").glob("*.ngq")} == files


@pytest.mark.parametrize(("recipe", "fisher"), [("int8", False), ("gptq-int8", True)])
def test_fisher_information_is_collected_where_a_recipe_uses_it(recipe, fisher, monkeypatch):
    asked = []

    def calibrated(*arguments, **options):
        calibration = calibrate_for_recipes(*arguments, **options)
        asked.append(calibration.has_fisher)
        return calibration

    monkeypatch.setattr(quantize, "calibrate_for_recipes", calibrated)
    options = [recipe if word == "gptq-int4" else word for word in QUANTIZE]
    assert main([*options, "--out", "out"]) == 0
    assert asked == [fisher]
