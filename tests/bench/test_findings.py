"""``ngrammix bench findings``: its figures, by other means than its own."""

import json
import sys
from math import log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.bench import findings
from eval.bench.findings import BENCH, loss_at, mean_ranks, spearman
from eval.cli import main
from eval.config import QuantizeConfig, ScoreConfig
from eval.data.open_data import open_data
from eval.demo.reference_text import reference_text
from eval.models.wrap import wrap
from eval.scoring.score import score
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from quant import RECIPES, QuantizedModel, ScalarConfig, quantize_model
from quant.io.codecs import CODECS
from quant.models.named_quantizers import INT6

numbers = st.lists(st.integers(-5, 5), min_size=2, max_size=20)


@given(numbers)
def test_ranks_are_places_among_the_sorted_and_ties_share_them(values):
    ordered = sorted(values)
    expected = [ordered.index(its) + (ordered.count(its) + 1) / 2 for its in values]
    assert mean_ranks(values).tolist() == expected


@given(st.permutations(range(9)), st.permutations(range(9)))
def test_without_ties_the_correlation_is_that_of_the_differences(x, y):
    squares = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    assert spearman(x, y) == pytest.approx(1 - 6 * squares / (9 * 80), abs=1e-12)


@given(numbers)
def test_only_the_order_counts(values):
    if len(set(values)) == 1:
        assert spearman(values, range(len(values))) is None
        assert spearman(range(len(values)), values) is None
        return
    assert spearman(values, np.exp(values)) == pytest.approx(1, abs=1e-12)
    assert spearman(values, [-(its**3) for its in values]) == pytest.approx(-1, abs=1e-12)


def test_the_logarithm_of_a_loss_is_linear_in_bytes():
    curve = [(400, 0.01), (100, 0.09), (200, 0.04), (900, -1e-5)]
    assert loss_at(100, curve) == pytest.approx(0.09)
    assert loss_at(150, curve) == pytest.approx(sqrt(0.09 * 0.04))
    assert loss_at(350, curve) == pytest.approx(0.04**0.25 * 0.01**0.75)
    assert [loss_at(size, curve) for size in (99, 401, 900)] == [None, None, None]
    assert loss_at(100, []) is None


TEXT = "A function that is defined in a class is a method of it.\n" * 40


class Bigrams(torch.nn.Module):
    """A model of bytes that has seen the text."""

    context, vocab_size = 64, 257

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(257, 16)
        self.hidden = torch.nn.Linear(16, 32)
        self.head = torch.nn.Linear(32, 257)
        self.tokenizer = ByteTokenizer(256)

    def forward(self, tokens):
        return self.head(torch.relu(self.hidden(self.embed(tokens))))

    def learn(self, text, steps=60):
        tokens = torch.tensor(list(text.encode()))
        optimizer = torch.optim.Adam(self.parameters(), 0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self(tokens[:-1]), tokens[1:]).backward()
            optimizer.step()
        return self


@pytest.fixture(scope="module")
def network():
    return Bigrams().learn(TEXT)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def result(text, network, tmp_path_factory):
    """What the command wrote, and printed as JSON, for two quantizers and short curves."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "CURVE", (ScalarConfig(bits=4, clip="sd:3"), INT6))
        patch.setattr(findings, "CODECS", {name: CODECS[name] for name in ("none", "zstd")})
        patch.setitem(sys.modules, "bigrams", SimpleNamespace(make=lambda: network))
        arguments = ["--model", "bigrams:make", "--data", str(text), "--limit", "1024"]
        arguments += ["--quantizers", "int6 sd", "gptq int6 sd", "lloyd 16"]
        arguments += ["--calibrate", str(text), "--calibration-tokens", "1024"]
        assert main(["bench", "findings", *arguments, "--out", str(out)]) == 0
    return json.loads((out / "findings.json").read_text())


def test_the_figures_are_those_of_the_file_scored_by_itself(result, text, network, tmp_path):
    row = result["quantizers"][0]
    quantized = quantize_model(network, "int6", progress=False)
    for form, packed in (("bytes", False), ("packed", True)):
        for codec in ("none", "zstd"):
            path = tmp_path / f"{form}{codec}"
            quantized.save(path, packed=packed, codec=codec)
            assert row["file_bytes"][form][codec] == path.stat().st_size
    assert row["best_bytes"] == min(path.stat().st_size for path in tmp_path.iterdir())
    stored, packed = (row["file_bytes"][form]["zstd"] for form in ("bytes", "packed"))
    assert row["packing_percent"]["zstd"] == pytest.approx((packed - stored) / stored * 100)

    changed = Bigrams()
    QuantizedModel.load(tmp_path / "byteszstd").load_into(changed)
    config = ScoreConfig(mixer="none", limit=1024)
    found = [
        score(wrap(its, context=64, tokenizer=its.tokenizer), open_data([str(text)]), config).bpb
        for its in (network, changed)
    ]
    assert [result["bpb"], row["bpb"]] == found
    assert row["loss"] == found[1] - found[0]


def test_mse_is_of_all_matrices_together(result, network):
    error = square = 0.0
    for weight in network.parameters():
        if weight.ndim == 2:
            exact = weight.detach().numpy().astype(np.float64)
            size = np.square(exact).sum(axis=1)
            steps = 12.85 / 31 * np.sqrt(size[:, None] / exact.shape[1])
            largest = np.abs(exact).max(axis=1, keepdims=True) / 31
            levels, widest = (
                np.clip(np.rint(exact / each), -31, 31) * each for each in (steps, largest)
            )
            excess = (
                np.square(exact - levels).sum(axis=1) > 1.5 / 12 * exact.shape[1] * steps[:, 0] ** 2
            )
            shift = np.abs(((levels - exact) * exact).sum(axis=1)) > size / 24
            levels = np.where((excess | shift)[:, None], widest, levels)
            error += np.square(exact - levels).sum()
            square += size.sum()
    assert result["quantizers"][0]["relative_mse"] == pytest.approx(error / square, rel=1e-4)


def test_errors_foretell_losses_in_their_unit(result):
    for row in result["quantizers"]:
        nats = row["error"] / 2 * result["tokens"]
        assert row["loss_foretold"] == pytest.approx(nats / log(2) / result["bytes"])
    nearest, gptq, _ = result["quantizers"]
    assert gptq["error"] < nearest["error"]
    assert gptq["relative_mse"] > nearest["relative_mse"]


def test_a_quantizer_on_a_curve_loses_what_the_curve_does(result):
    nearest, gptq, lloyd = result["quantizers"]
    coarse, fine = result["curves"]["rtn"]
    gptq_fine = result["curves"]["gptq"][1]
    assert coarse["quantizer"] == "scalar bits=4 clip=sd:3"
    assert (fine["best_bytes"], fine["loss"]) == (nearest["best_bytes"], nearest["loss"])
    assert (gptq_fine["best_bytes"], gptq_fine["loss"]) == (gptq["best_bytes"], gptq["loss"])
    assert nearest["loss_at_bytes"]["rtn"] == pytest.approx(nearest["loss"])
    for row in (nearest, gptq, lloyd):
        for way, points in result["curves"].items():
            curve = [(its["best_bytes"], its["loss"]) for its in points]
            assert row["loss_at_bytes"][way] == loss_at(row["best_bytes"], curve)


def test_correlations_are_of_the_quantizers(result):
    losses = [row["loss"] for row in result["quantizers"]]
    for key, found in result["rank_correlation"].items():
        assert found == spearman([row[key] for row in result["quantizers"]], losses)


def test_the_table_has_a_line_for_each_quantizer_twice(result):
    text = BENCH.text("findings", result, [])
    assert f"{result['signature']} = {result['bpb']:.4f}" in " ".join(text.split())
    for row in result["quantizers"]:
        lines = [line for line in text.splitlines() if line.startswith(f"{row['name']} ")]
        assert len(lines) == 2
        assert f"{row['best_bytes']:,}" in lines[0]
        assert f"{row['file_bytes']['bytes']['zstd']:,}" in lines[1]


def test_recipes_are_among_the_quantizers():
    uses = {recipe.rules[-1].use for recipe in RECIPES.values() if len(recipe.rules) == 1}
    others = {RECIPES[name].rules[0].use for name in ("gptq-int8", "gptq-int4-group")}
    assert uses - set(findings.QUANTIZERS.values()) == others
    sequential = {recipe.rules[-1].use for recipe in RECIPES.values() if recipe.sequential}
    assert set(findings.SEQUENTIAL.values()) <= sequential


def test_nothing_lost_is_no_error():
    layer = torch.nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(4))
    quantized = quantize_model(layer, "int8", progress=False)
    assert findings.relative_mse(quantized, layer) == 0


def test_data_without_a_byte_are_refused():
    with pytest.raises(ValueError) as caught:
        findings.bpb_of(SimpleNamespace(bpb_model=None, bytes=0, data="shard.bin"))
    assert str(caught.value) == (
        "there must be a byte to divide by, got 0 in shard.bin; name other data"
    )


def test_without_data_it_is_the_embedded_text():
    data = findings.data_of(QuantizeConfig(), ByteTokenizer(256))
    assert [document.raw for document in data] == [reference_text()]


def test_an_unknown_quantizer_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "findings", "--quantizers", "int5"])
    assert "invalid choice: 'int5'" in capsys.readouterr().err
