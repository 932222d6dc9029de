"""A run refuses a model that sees the future before anything is scored or written."""

import json

import numpy as np
import pytest

from eval.cli import main
from eval.comparing.compare import compare
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.scoring.score import score
from tests.toy import ToyModel

DATA = Documents([Document("a", b"the cat sat on the mat, the dog sat on the log")])
REFUSED = "a model must predict each token from the tokens before it, got "


class Rolled(ToyModel):
    """Row t knows token t + 1."""

    name = "rolled"

    def logits(self, tokens):
        return super().logits(np.roll(tokens, -1, axis=1))


def score_of(model, **options):
    return score(model, DATA, ScoreConfig(**options))


def test_it_is_refused_before_anything_is_written(tmp_path):
    for options in ({"mixer": "none"}, {"batch": 1}, {"context": 5}, {"windows": "stream"}):
        with pytest.raises(ValueError) as error:
            score(Rolled(), DATA, ScoreConfig(**options), checkpoint=tmp_path / "c", out=tmp_path)
        assert str(error.value).startswith(f"{REFUSED}rolled: its logits at position ")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=REFUSED):
        compare(Rolled(), DATA, ["ngrammix"])


def test_the_switch_stands_in_the_signature():
    plain, unchecked = score_of(ToyModel()), score_of(ToyModel(), causality_check=False)
    assert plain.bits == unchecked.bits
    assert plain.causality_check is True
    assert "causality" not in plain.signature
    assert unchecked.causality_check is False
    assert "|causality:unchecked|" in unchecked.signature
    assert score_of(None).causality_check is None
    for check in (True, False):
        config = ScoreConfig(causality_check=check)
        result = compare(ToyModel(), DATA, ["ngrammix"], config)
        assert ("|causality:unchecked|" in result.signature) is not check


def test_a_run_goes_on_with_the_check_it_began_with(tmp_path):
    score(ToyModel(), DATA, ScoreConfig(causality_check=False), checkpoint=tmp_path)
    with pytest.raises(ValueError) as error:
        score(ToyModel(), DATA, checkpoint=tmp_path)
    assert str(error.value) == (
        "a run must go on with the --causality-check it began with, got True where the checkpoint "
        f"in {tmp_path} has False; pass --no-causality-check, or delete the checkpoint"
    )


def test_short_runs_ask_little_and_data_may_be_empty():
    model = ToyModel()
    score(model, Documents([Document("a", b"a cat")]), ScoreConfig())
    assert model.calls == 1 + 3
    assert score(ToyModel(), Documents([Document("a", b"")]), ScoreConfig()).tokens == 0


CHEAT = """
import torch
from eval.tokenizers.byte_tokenizer import ByteTokenizer

def make():
    def net(x):
        return 20.0 * torch.nn.functional.one_hot(torch.roll(x, -1, 1), 256).float()
    net.context, net.tokenizer = 64, ByteTokenizer(0)
    return net

class Network(torch.nn.Module):
    context, tokenizer = 64, ByteTokenizer(0)

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(256, 256)

    def forward(self, x):
        return self.table(x).cumsum(1) + self.table(x).mean(1, keepdim=True)

    def get_input_embeddings(self):
        return self.table
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "seeing.py").write_text(CHEAT)
    (tmp_path / "t.txt").write_bytes(b"It was the best of times, it was the worst of times. " * 60)
    return tmp_path


def test_the_command_line(folder, capsys):
    arguments = ["score", "--model", "seeing:make", "--data", "t.txt", "--limit", "900"]
    assert main([*arguments, "--out", "out", "--checkpoint", "c"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"ngrammix: error: {REFUSED}make.<locals>.net-" in output.err
    assert not (folder / "c").exists()
    assert main([*arguments, "--no-causality-check", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bpb_model"] < 1
    assert result["causality_check"] is False
    (folder / "run.toml").write_text(
        'model = "seeing:make"\ndata = ["t.txt"]\nlimit = 900\ncausality_check = false\n'
    )
    assert main(["score", "--config", "run.toml"]) == 0
    assert "|causality:unchecked|" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--data", "t.txt", "--limit", "300"],
        ["quantize", "--calibrate", "t.txt", "--out", "q"],
        ["quantize", "--out", "q"],
        ["pipeline", "--data", "t.txt", "--recipe", "int8"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_it(folder, capsys, arguments):
    assert main([*arguments, "--model", "seeing:Network"]) == 2
    assert f"error: {REFUSED}Network-" in capsys.readouterr().err
