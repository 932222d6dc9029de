"""Every way to a model checks its weights, and every path knows the home directory."""

import pytest

from eval.cli import main
from eval.commands.option_groups import user_path
from eval.config import QuantizeConfig, RunConfig, make_config
from eval.fields import expand_home
from eval.models.load_model import load_model
from tests.models.tiny import TEXT, rename_weights, save_llama

pytest.importorskip("transformers")


@pytest.fixture
def headless(tmp_path, monkeypatch):
    """A folder m without head, and a text t.txt, in the current directory."""
    save_llama(tmp_path / "m")
    rename_weights(tmp_path / "m", lambda name: None if name == "lm_head.weight" else name)
    (tmp_path / "t.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "score --data t.txt",
        "compare --data t.txt",
        "quantize --recipe int8 --out o",
        "pipeline --recipe int8 --data t.txt",
    ],
)
@pytest.mark.parametrize("model", ["m", "~/m"])
def test_every_command_refuses_a_headless_folder(headless, capsys, command, model):
    assert main([*command.split(), "--model", model]) == 2
    where = model.replace("~", str(headless))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "ngrammix: error: the weights must be those that config.json describes, got 1 missing "
        f"(lm_head.weight) in {where}; transformers would take random numbers instead: save the "
        "whole model with save_pretrained\n"
    )


def test_home_directories_in_every_path(headless):
    home = str(headless)
    (headless / "c.toml").write_text('data = ["~/a", "b~"]\nout = "~/o"\ndevice = 1\n')
    config = make_config(RunConfig, {"tokenizer": "~/t.json", "model": "~"}, "~/c.toml")
    assert (config.data, config.out) == ((f"{home}/a", "b~"), f"{home}/o")
    assert (config.tokenizer, config.model, config.device) == (f"{home}/t.json", home, 1)
    config = QuantizeConfig(
        quantized="~/q", token_bytes="~/n.npy", checkpoint="~/c", calibrate=("~/d",)
    )
    assert (config.quantized, config.token_bytes) == (f"{home}/q", f"{home}/n.npy")
    assert (config.checkpoint, config.calibrate) == (f"{home}/c", (f"{home}/d",))


@pytest.mark.parametrize("path", ["~no-such-user/m", "a/~/b", "", "-", "~a\0b"])
def test_other_paths_stay(path):
    assert expand_home(path) == path


def test_the_home_directory_in_python(headless):
    with pytest.raises(ValueError, match="1 missing"):
        load_model("~/m")
    assert str(user_path("~/o")) == f"{headless}/o"


def test_the_home_directory_of_saved_logits(headless, capsys):
    assert main(["compare", "--logits", "~/none.npy", "--tokens", "~/t.npy"]) == 2
    assert str(headless / "none.npy") in capsys.readouterr().err
