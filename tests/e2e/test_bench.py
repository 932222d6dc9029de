"""The benches beside `observe` and `scale`, on streams that take no time."""

import json

import numpy as np
import pytest

from eval.bench import match as match_bench
from eval.bench import mix as mix_bench
from eval.bench.peers.bigram_model import Bigram
from eval.cli import main
from ngrammix import MatchModel


@pytest.fixture
def text(tmp_path, rng):
    """Bytes that repeat themselves: 30,000 of them."""
    path = tmp_path / "text"
    phrase = rng.integers(97, 105, 5000, np.uint8).tobytes()
    path.write_bytes(phrase + rng.integers(97, 123, 20_000, np.uint8).tobytes() + phrase)
    return path


def run(capsys, *arguments):
    """(JSON, table) of a bench."""
    assert main(["bench", *arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert main(["bench", *arguments]) == 0
    return result, capsys.readouterr().out


def test_bench_memory_measures_every_share(text, tmp_path, capsys):
    arguments = ["memory", "--data", str(text), "--order", "4", "--out", str(tmp_path / "out")]
    result, table = run(capsys, *arguments)
    rows = result["limits"]
    assert [(row["memory"], row["policy"]) for row in rows] == [
        ("unlimited", "none"), ("1/2", "evict"), ("1/2", "empty"), ("1/4", "evict"),
        ("1/4", "empty"), ("1/8", "evict"), ("1/8", "empty"),
    ]  # fmt: skip
    assert rows[0]["added_bits_per_token"] == 0
    for row in rows[1:]:
        assert row["bits_per_token"] > 0
        assert row["policy"] == "empty" or row["bytes"] <= row["limit_bytes"]
    assert rows[-2]["n_evictions"] > 0
    assert rows[-2]["evicted"] > 0
    assert rows[-1]["n_evictions"] > 0
    assert "1/8       evict" in table
    assert (tmp_path / "out" / "memory.json").is_file()


def test_bench_match_counts_what_is_right(text, tmp_path, capsys):
    arguments = ["match", "--data", str(text), "--runs", "1", "--out", str(tmp_path)]
    result, table = run(capsys, *arguments)
    assert result["tokens"] == 30_000
    least, *_, longest = result["lengths"]
    assert least["least_length"] == 7
    assert longest["least_length"] == 32
    assert 4900 / 30_000 < longest["share_of_tokens"] <= 5000 / 30_000
    assert longest["accuracy"] > 0.99
    assert result["tokens_per_second"] > 0
    assert "a Python dict" in table


def test_the_peer_finds_the_same_matches(rng):
    tokens = np.concatenate([rng.integers(0, 30, 500)] * 2)
    ours = MatchModel(vocab_size=30, min_length=4).observe(tokens)
    peer = match_bench.walk_dict(tokens.tolist(), 4)
    assert ours.hint[510:].tolist() == [hint for _, hint in peer[510:]]
    assert ours.length[510:].tolist() == [length for length, _ in peer[510:]]


def test_bench_mix_measures_every_stage_and_peer(text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mix_bench, "WIDE", 500)
    arguments = ["mix", "--data", str(text), "--order", "4", "--runs", "1", "--out", str(tmp_path)]
    result, table = run(capsys, *arguments)
    for name in ("score", "score_cold", "score_nll", "one_hint_tilt_in_numpy", "plain_python"):
        assert result[f"tokens_per_second_{name}"] > 0
    stages = ("observe", "hints", "tilt", "backoff", "gate", "guard", "matched order")
    assert [key for key in result if key.startswith("nanoseconds_")] == [
        f"nanoseconds_{stage}" for stage in stages
    ]
    assert 0 < result["state_bytes"] < 16_000_000  # beyond the tables
    assert not any(isinstance(value, dict | list) for value in result.values())
    assert "Mixer.probs at V = 500" in table
    assert (tmp_path / "mix.json").is_file()


def test_bench_mix_refuses_stages_that_are_not_the_mixer(monkeypatch, rng):
    tokens = np.tile(rng.integers(0, 9, 100), 10)
    mix_bench.check_stages(tokens, 9, 3)
    monkeypatch.setattr(mix_bench, "MIXING_DISCOUNT", 0.5)
    with pytest.raises(RuntimeError, match=r"the stages must cost what Mixer.score says, got .*"):
        mix_bench.check_stages(tokens, 9, 3)


def test_the_models_numbers_are_those_of_its_distribution(rng):
    tokens = rng.integers(0, 7, 400)
    model = Bigram(tokens, 9)
    logits = model.logits(model.previous)
    p = np.exp(logits)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    hints = rng.integers(-1, 9, (400, 2))
    said = model.lookup(model.previous, tokens, hints)
    np.testing.assert_allclose(said.entropy, -(p * logits).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(said.log_p, logits[np.arange(400), tokens])
    np.testing.assert_allclose(said.log_top, logits.max(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(said.log_top, logits[np.arange(400), said.top])
    chosen = np.where(hints < 0, -np.inf, np.take_along_axis(logits, np.maximum(hints, 0), axis=1))
    np.testing.assert_array_equal(said.log_hints, chosen)


def test_bench_overlap_measures_every_way(capsys, tmp_path):
    arguments = ["overlap", "--runs", "1", "--tokens", "600", "--out", str(tmp_path)]
    assert main(["bench", *arguments]) == 0
    table = capsys.readouterr().out
    result = json.loads((tmp_path / "overlap.json").read_text(encoding="utf-8"))
    for way in ("model_alone", "cache_ahead", "cache_between", "whole_mixer"):
        assert result[f"seconds_{way}"] > 0
    assert result["tokens"] == 600
    assert "prefetch" in table


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["match", "--runs", "0"], "--runs must be >= 1, got 0; leave it out for the default"),
        (["overlap", "--tokens", "0"],
         "--tokens must be >= 1, got 0; leave it out for the default"),
        (["memory", "--data", "missing"],
         "text must be a file, got missing, which is missing; check the path"),
    ],
)  # fmt: skip
def test_refusals(arguments, text, capsys):
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err == f"ngrammix: error: {text}\n"
