"""Comparisons: each mixer's figures are those it has alone, whatever takes part beside it."""

import csv
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from eval import cli, compare, load_model, open_data
from eval.comparing import names as module
from eval.comparing.comparison import MIXERS, compare_source
from eval.comparing.features import RawAndKnCounts, make_features
from eval.comparing.names import NAMES
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.comparing.result import make_comparison_result
from eval.comparing.sources import SavedSource, TextSource
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.scoring.conditions import hash_conditions
from eval.scoring.score import score
from ngrammix import Mixer
from ngrammix.experts.choices import ALL
from tests.toy import ToyModel

V, T = 6, 3000


@pytest.fixture(scope="module")
def arrays():
    """Logits (T, V) and tokens in documents of about 70 tokens that copy one another."""
    rng = np.random.default_rng(2)
    tokens = np.tile(rng.integers(1, V, 100), T // 100)
    is_noise = rng.random(T) < 0.1
    tokens[is_noise] = rng.integers(1, V, is_noise.sum())
    tokens[rng.random(T) < 1 / 70] = 0
    return rng.normal(size=(T, V)), tokens


@pytest.fixture
def saved(arrays, tmp_path):
    for name, array in zip(("l.npy", "t.npy"), arrays, strict=True):
        np.save(tmp_path / name, array)
    np.save(tmp_path / "p.npy", arrays[1][:500])
    return tmp_path / "l.npy", tmp_path / "t.npy"


def test_every_mixer_costs_what_it_costs_alone(arrays, saved):
    logits, tokens = arrays
    comparison = compare_source(SavedSource(*saved, bos=0), NAMES, order=4)
    assert comparison.mixers == ("model", *NAMES)
    counts = RawAndKnCounts(4, vocab_size=V)
    features = make_features(counts, logits, tokens, np.arange(T))
    totals = dict(zip(comparison.mixers, comparison.nats.sum(axis=1), strict=True))
    settings = dict(zip(comparison.mixers, comparison.settings, strict=True))
    assert settings["model"] == ""
    for name, make in MIXERS.items():
        mixer = make(vocab_size=V, order=4)
        trace = mixer.trace(logits, tokens)
        assert totals["model"] == pytest.approx(trace.nats_model.sum(), rel=1e-12)
        assert totals[name] == pytest.approx(trace.nats.sum(), rel=1e-12)
        assert settings[name] == mixer.experts == (ALL if name == "ngrammix" else name)
    for name, make_settings in PUBLISHED_RULES.items():
        costs = {setting: rule(features).sum() for setting, rule in make_settings().items()}
        assert totals[name] == pytest.approx(min(costs.values()), rel=1e-12)
        assert costs[settings[name]] == pytest.approx(totals[name], rel=1e-12)


def test_costs_are_summed_document_by_document(arrays, saved):
    logits, tokens = arrays
    comparison = compare_source(SavedSource(*saved, bos=0), ["ngrammix"], order=4)
    document = np.cumsum(tokens == 0) - (tokens[0] == 0)
    assert comparison.unit == "documents"
    np.testing.assert_array_equal(comparison.sizes, np.bincount(document))
    expected = np.bincount(document, Mixer(vocab_size=V, order=4).score(logits, tokens))
    np.testing.assert_allclose(comparison.nats[1], expected, rtol=1e-12)


@pytest.mark.parametrize("block", [V, 100 * V])
def test_blocks_of_the_file_do_not_show(saved, monkeypatch, block):
    names = ["hedge", "ngrammix", "entropy"] if block > V else ["ngrammix"]
    whole = compare_source(SavedSource(*saved), names, order=4)
    monkeypatch.setattr("eval.comparing.sources.BLOCK_LOGITS", block)
    pieces = compare_source(SavedSource(*saved), names, order=4)
    assert pieces.settings == whole.settings
    np.testing.assert_allclose(pieces.nats, whole.nats, rtol=1e-10)


def test_a_mixer_costs_the_same_beside_others(saved):
    source = partial(SavedSource, *saved)
    both = compare_source(source(), ["one-hint", "ngrammix"], order=3, memory_limit="8MiB")
    for row, name in enumerate(("one-hint", "ngrammix"), start=1):
        alone = compare_source(source(), [name], order=3, memory_limit="8MiB")
        np.testing.assert_array_equal(alone.nats, both.nats[[0, row]])
        assert alone.memory_limit == 8 << 20


def test_every_cache_learns_the_prefill(arrays, saved):
    logits, tokens = arrays
    prefill = [saved[0].with_name("p.npy"), saved[1]]
    comparison = compare_source(
        SavedSource(*saved, prefill=prefill), ["ngrammix", "fixed"], order=4
    )
    mixer, counts = Mixer(vocab_size=V, order=4), RawAndKnCounts(4, vocab_size=V)
    for learner in (mixer, counts):
        learner.learn(tokens[:500])
        learner.learn(tokens)
    fixed = PUBLISHED_RULES["fixed"]()[comparison.settings[2]]
    features = make_features(counts, logits, tokens, np.arange(T))
    assert comparison.nats[1].sum() == pytest.approx(mixer.score(logits, tokens).sum(), rel=1e-12)
    assert comparison.nats[2].sum() == pytest.approx(fixed(features).sum(), rel=1e-12)


def test_a_variant_takes_part_under_its_own_name(saved, monkeypatch):
    monkeypatch.setitem(MIXERS, "short", lambda order, **cache: Mixer(order=2, **cache))
    monkeypatch.setattr(module, "NAMES", (*MIXERS, *PUBLISHED_RULES))
    comparison = compare_source(SavedSource(*saved), ["short", "ngrammix"], order=5)
    expected = compare_source(SavedSource(*saved), ["ngrammix"], order=2)
    np.testing.assert_array_equal(comparison.nats[1], expected.nats[1])
    assert (comparison.nats[1] != comparison.nats[2]).any()


def test_text_costs_what_score_says(tmp_path):
    documents = [Document(str(i), b"the cat sat on the mat, %d times" % i) for i in range(31)]
    config = ScoreConfig(order=4, stride=3)
    source = TextSource(Documents(documents), ToyModel(), config)
    comparison = compare_source(source, ["ngrammix", "fixed"], 4)
    result = score(ToyModel(), Documents(documents), config, out=tmp_path)
    with (tmp_path / "documents.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for nats, column in zip(comparison.nats[:2], ("bits_model", "bits"), strict=True):
        expected = [float(row[column]) * math.log(2) for row in rows]
        np.testing.assert_allclose(nats, expected, atol=1e-5)
    assert comparison.nats[1].sum() == pytest.approx(result.bits * math.log(2), rel=1e-11)
    assert comparison.sizes.tolist() == [len(document.raw) for document in documents]


def test_refusals(saved):
    names_of_mixers = (
        "ngrammix, tilt+guard, gate+guard, guard, tilt+gate+switch, tilt+switch, gate+switch, "
        "switch, tilt+gate, tilt, gate, fixed, entropy, dirichlet, one-hint, hedge"
    )
    for names, text in (
        (["backoff"], f"mixers must be of {names_of_mixers}, got 'backoff'; check the name"),
        (["model"], f"mixers must be of {names_of_mixers}, got 'model'; check the name"),
        ([""], f"mixers must be of {names_of_mixers}, got ''; check the name"),
        (["fixed", "hedge", "fixed"],
         "mixers must differ, got fixed,hedge,fixed; name each one once"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:
            compare_source(SavedSource(*saved), names, order=4)
        assert str(error.value) == text


@pytest.mark.parametrize("names", [["ngrammix"], ["fixed", "ngrammix"]])
def test_a_bad_logit_is_named_by_its_position_in_the_file(arrays, saved, monkeypatch, names):
    monkeypatch.setattr("eval.comparing.sources.BLOCK_LOGITS", 100 * V)
    logits = arrays[0].copy()
    logits[1234, 2] = np.nan
    np.save(saved[0], logits)
    with pytest.raises(ValueError) as error:
        compare_source(SavedSource(*saved), names, order=4)
    assert str(error.value) == (
        "logits must be numbers below +inf, got nan at position 1234; look for an overflow in the "
        "model, or compute the logits in float32"
    )


def test_a_result_holds_every_figure_and_condition(saved):
    source = SavedSource(*saved, n_bytes=9000, bos=0, prefill=[saved[0].with_name("p.npy")])
    comparison = compare_source(source, ["one-hint", "ngrammix"], order=4)
    result = make_comparison_result(comparison, source)
    nats, sizes = comparison.nats / math.log(2), comparison.sizes
    assert sizes.sum() == pytest.approx(9000)
    for row, spent in zip(result.rows, nats, strict=True):
        assert row.score == pytest.approx(spent.sum() / 9000)
        assert row.bits == pytest.approx(spent.sum())
        assert row.gain == pytest.approx((nats[0] - spent).sum() / 9000)
        assert row.bits_more == pytest.approx((spent - nats[1]).sum())
    model, first, second = result.rows
    assert model.gain == model.gain_error == first.bits_more == first.bits_more_error == 0
    assert model.bits_more_error == pytest.approx(first.gain_error * 9000)
    assert second.bits_more_error > 0
    conditions = result.conditions
    assert result.signature == (
        f"BPB|data:{conditions['data_sha256'][:16]}|bytes:9000|tokens:3000|"
        f"model:{conditions['model']}|bos:0|order:4|prefill:500-"
        f"{conditions['prefill_sha256'][:8]}|mixers:one-hint,ngrammix|version:0.1.0|"
        f"conditions:{hash_conditions(conditions)}"
    )
    flat = json.loads(result.to_json())
    assert flat["bpb_one_hint"] == first.score
    assert flat["setting_one_hint"] == first.setting
    assert flat["bits_more_error_model"] == model.bits_more_error
    assert not any(isinstance(value, dict | list) for value in flat.values())


def test_without_bytes_figures_are_per_token(saved):
    source = SavedSource(*saved)
    result = make_comparison_result(compare_source(source, ["ngrammix"], order=4), source)
    assert result.signature.startswith("BPT|data:")
    assert "bytes" not in result.signature
    assert result.rows[0].score == pytest.approx(result.rows[0].bits / T)
    assert "bits/token" in result.table()
    assert "hindsight" not in result.table()
    assert json.loads(result.to_json())["bpt_ngrammix"] == result.rows[1].score


def test_one_unit_has_no_standard_error(arrays, tmp_path):
    np.save(tmp_path / "l.npy", arrays[0][:50])
    np.save(tmp_path / "t.npy", arrays[1][:50])
    source = SavedSource(tmp_path / "l.npy", tmp_path / "t.npy")
    result = make_comparison_result(compare_source(source, ["ngrammix"], order=4), source)
    assert result.rows[1].gain_error is result.rows[1].bits_more_error is None
    assert result.table().splitlines()[3].split()[-1] == "?"
    assert json.loads(result.to_json())["gain_error_ngrammix"] is None


def test_the_face_gives_the_figures_of_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = b"The cat sat on the mat. " * 20
    Path("cats.txt").write_bytes(text)
    names = ["ngrammix", "gate+guard", "entropy"]
    data = open_data(["cats.txt"])
    result = compare(load_model("demo"), data, names, ScoreConfig(order=5))
    arguments = ["--data", "cats.txt", "--model", "demo", "--mixers", ",".join(names)]
    assert cli.main(["compare", *arguments, "--order", "5", "--json"]) == 0
    assert capsys.readouterr().out == result.to_json()
