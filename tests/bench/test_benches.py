"""Each bench once, at a tiny size, by the command: its figures, its file, its tables."""

import json
import math
import re
import sys
from importlib import import_module

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval.bench import codebooks, mix, packing, read_files, scalar
from eval.bench.harness import Table
from eval.cli import main
from eval.commands.benches import BENCHES

# `findings` and `ranks` have tests of their own.
ARGUMENTS = {
    "observe": ["--runs", "2", "--dict-tokens", "1000"],
    "scale": ["--millions", "0.05", "0.01"],
    "memory": ["--order", "4"],
    "mix": ["--order", "4", "--runs", "1"],
    "match": ["--runs", "1"],
    "overlap": ["--runs", "1", "--tokens", "600"],
    "device": [
        "--device",
        "cpu",
        "--rows",
        "9",
        "--vocab",
        "40",
        "300",
        "--models",
        "11 M",
        "--windows",
        "1",
        "--batch",
        "1",
        "--runs",
        "1",
    ],
    "read": ["--runs", "1", "--tokenizer", "bytes"],
    "score": ["--tokens", "600", "--runs", "1", "--milliseconds", "0.02"],
    "scalar": ["--rows", "4", "--columns", "128", "--runs", "1"],
    "gptq": ["--shapes", "24x48", "--rows", "200", "--runs", "1"],
    "causality": ["--families", "gpt2", "xlnet", "t5", "--tokens", "600", "--runs", "1"],
    "audit": ["--budget", "20", "--runs", "1"],
    "codebooks": ["--values", "500", "--rows", "8", "--runs", "1"],
    "packing": ["--codes", "999", "--runs", "1"],
}
WITH_DATA = ("observe", "scale", "memory", "mix", "match", "read")


def check_observe(figures):
    peers = (
        "token_by_token", "python_dict", "python_dict_tuned", "numpy_counts",
        "numpy_counts_large_chunks",
    )  # fmt: skip
    for name in ("observe", "cold", "two_threads", "two_threads_cold", *peers):
        assert figures[f"tokens_per_second_{name}"] > 0
    for name in (*peers, "limit", "strict_limit"):
        assert 0 < figures[f"ratio_to_{name}"] < math.inf
    for name in ("ratio_two_threads_to_one", "ratio_two_threads_to_token_by_token"):
        assert 0 < figures[name] < math.inf
    assert figures["same_bits"] is True
    assert 2 < figures["reads_per_token"] < 2 * figures["order"]
    assert figures["tokens_per_second_kenlm"] is None
    assert figures["dict_tokens"] == 1000


def check_scale(figures):
    assert [row["tokens"] for row in figures["sizes"]] == [10_000, 50_000]
    assert figures["real_tokens"] == 30_000
    assert figures["sizes"][0]["seconds"] < figures["sizes"][1]["seconds"]
    first, last = figures["sizes"]
    growth = last["seconds"] / first["seconds"] / 5
    assert figures["time_growth_per_token_growth"] == pytest.approx(growth)


def check_memory(figures):
    rows = figures["limits"]
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


def check_mix(figures):
    for name in ("score", "score_cold", "score_nll", "one_hint_tilt_in_numpy", "plain_python"):
        assert figures[f"tokens_per_second_{name}"] > 0
    stages = ("observe", "hints", "tilt", "backoff", "gate", "guard", "matched_order")
    assert [key for key in figures if key.startswith("nanoseconds_")] == [
        f"nanoseconds_{stage}" for stage in stages
    ]
    total = sum(figures[f"nanoseconds_{stage}"] for stage in stages)
    assert figures["tokens_per_second_score"] == pytest.approx(1e9 / total)
    assert figures["probs_vocab_size"] == 500
    assert 0 < figures["state_bytes"] < 16_000_000  # beyond the tables
    assert not any(isinstance(value, dict | list) for value in figures.values())


def check_match(figures):
    assert figures["tokens"] == 30_000
    shortest, *_, longest = figures["lengths"]
    assert (shortest["least_length"], longest["least_length"]) == (7, 32)
    assert 4900 / 30_000 < longest["share_of_tokens"] <= 5000 / 30_000
    assert longest["accuracy"] > 0.99
    ratio = figures["tokens_per_second"] / figures["tokens_per_second_python_dict"]
    assert figures["ratio_to_python_dict"] == pytest.approx(ratio)


def check_overlap(figures):
    for way in ("model_alone", "cache_ahead", "cache_between", "whole_mixer"):
        assert figures[f"seconds_{way}"] > 0
    assert figures["added_percent_model_alone"] == 0
    assert figures["tokens"] == 600


def check_device(figures):
    assert [row["vocab_size"] for row in figures["reading"]] == [40, 300]
    for row in figures["reading"]:
        for way in ("cross_entropy", "five_numbers", "five_numbers_by_torch", "read", "copied"):
            assert row[f"rows_per_second_{way}"] > 0
    (model,) = figures["mixing"]
    assert 10e6 < model["parameters"] < 12e6
    assert model["tokens"] == 1024
    assert 0 < model["nats"] < 1024 * 2 * np.log(1024)
    for way in ("alone", "mixer", "ahead"):
        assert model[f"tokens_per_second_{way}"] > 0


def check_read(figures):
    assert figures["bytes"] == 30_000
    formats = [*read_files.READERS, ".bin"]
    expected = [(name, suffix) for name in ("bytes", "demo") for suffix in formats]
    expected += [("bytes", suffix) for suffix in read_files.READERS]  # no token begins a document
    cases = figures["cases"]
    assert [(case["tokenizer"], case["format"]) for case in cases] == expected
    for case in cases:
        for way in ("documents", "tokens", "batches", "library", "datasets"):
            rate = case[f"megabytes_per_second_{way}"]
            if case["format"] == ".bin" and way in ("library", "datasets"):
                assert rate is None
            else:
                assert rate > 0
    slowest = min(case["megabytes_per_second_batches"] for case in cases)
    assert figures["slowest_megabytes_per_second"] == slowest
    assert figures["reaches_floor"] == (slowest >= figures["floor_megabytes_per_second"])


def check_score(figures):
    stand_in, demo = figures["models"]
    assert stand_in["seconds_alone"] >= 600 * 0.02e-3
    assert demo["tokens"] == stand_in["tokens"] == figures["tokens"] == 600
    assert figures["is_within"] == (stand_in["added_percent"] <= figures["most_added_percent"])


def check_scalar(figures):
    assert [row["format"] for row in figures["scalar"]] == list(scalar.FORMATS)
    weight = np.ones((4, 128), np.float32)
    for row in figures["scalar"]:
        for action, make in (("encode", scalar.encoders), ("decode", scalar.decoders)):
            assert row[action].keys() == make(weight, scalar.FORMATS["int6 per row"]).keys()
            assert min(row[action].values()) > 0


def check_gptq(figures):
    (layer,) = figures["layers"]
    assert [(case["bits"], case["act_order"]) for case in layer["cases"]] == [
        (6, True), (6, False), (4, True), (4, False)
    ]  # fmt: skip
    for case in (layer["hessian"], *layer["cases"]):
        assert min(case["seconds_ours"], case["seconds_plain"], case["ratio"]) > 0
    for case in layer["cases"]:
        assert case["error_ours"] == pytest.approx(case["error_plain"], rel=0.01)
        assert case["error_ours"] <= case["error_rtn"]


def check_causality(figures):
    rows = {row["family"]: row for row in figures["rows"]}
    assert (rows["gpt2"]["float32"], rows["gpt2"]["bfloat16"]) == (None, None)
    assert rows["gpt2"]["noise_float32"] < 1e-5
    assert [row["family"] for row in figures["accused"]] == ["xlnet"]
    for dtype in ("float32", "bfloat16", "float64"):
        assert rows["xlnet"][dtype] == "future"
    assert (figures["families"], figures["n_accused"], figures["false_alarms"]) == (2, 1, 0)
    assert 0 < figures["seconds_probe"] < 60


def check_audit(figures):
    honest, *planted = figures["rows"]
    assert (honest["peer"], honest["probe"], honest["audit"]) == (None, None, None)
    assert all(row["audit"] for row in planted)
    assert (figures["planted"], figures["n_audit"]) == (len(planted), len(planted))
    assert figures["n_peer"] < figures["n_probe"] < figures["n_audit"]
    assert figures["accused"] == figures["missed_of_peer"] == 0
    assert [row["audit"] for row in planted][-1] == "C4"
    assert figures["ratio_to_peer"] > 0


def check_codebooks(figures):
    assert [row["k"] for row in figures["numbers"]] == [16, 64, 256]
    errors = [row["mse_exact"] for row in figures["numbers"]]
    assert errors == sorted(errors, reverse=True)
    for row in figures["numbers"]:
        assert 0 < row["mse_exact"] <= row["mse_iterative"]
        assert row["mse_kmeans1d"] is row["seconds_kmeans1d"] is None
    assert figures["vectors"]["vectors"] == 512
    assert 0 < figures["vectors"]["relative_mse"] < 1
    assert figures["missing"] == "kmeans1d, faiss"


def check_packing(figures):
    assert [row["bits"] for row in figures["speed"]] == list(range(1, 9))
    assert all(value > 0 for row in figures["speed"] for value in row.values())
    rows = {(row["clip"], row["codec"]): row for row in figures["compressed"]}
    n = figures["weights"]
    for clip in packing.CLIPS:
        none, zstd, entropy = (rows[clip, codec] for codec in ("none", "zstd", "entropy"))
        assert 0 < none["bytes_together"] - n < 100  # a header
        assert none["bytes_together"] - n == none["packed_together"] - n * 6 // 8
        assert entropy["bytes_each"] <= entropy["bytes_together"] < zstd["bytes_together"] < n


@pytest.fixture
def text(tmp_path, rng):
    """Bytes that repeat themselves: 30,000 of them."""
    path = tmp_path / "text"
    phrase = rng.integers(97, 105, 5000, np.uint8).tobytes()
    path.write_bytes(phrase + rng.integers(97, 123, 20_000, np.uint8).tobytes() + phrase)
    return path


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_bench_measures_and_shows_its_figures(name, text, rng, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mix, "WIDE", 500)
    monkeypatch.setitem(sys.modules, "kenlm", None)  # as where it is not installed
    monkeypatch.setattr(codebooks, "find_spec", lambda name: None)
    out = tmp_path / "out"
    data = ["--data", str(text)] if name in WITH_DATA else []
    if name == "memory":  # an eighth of its memory must be a limit that a cache may have
        text.write_bytes(text.read_bytes() + rng.integers(97, 123, 100_000, np.uint8).tobytes())
    if name == "packing":
        save_file({"a": rng.normal(size=(40, 80)), "norm": np.ones(9)}, tmp_path / "model")
        data = ["--model", str(tmp_path / "model")]
    assert main(["bench", name, *data, *ARGUMENTS[name], "--json", "--out", str(out)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert json.loads((out / f"{name}.json").read_text(encoding="utf-8")) == figures
    globals()[f"check_{name}"](figures)

    bench = import_module(f"eval.bench.{name}").BENCH
    shown = bench.text(name, figures, ["runs"])
    assert shown.startswith(f"bench {name}|")
    assert max(map(len, shown.splitlines())) <= 120
    for part in bench.report:
        if isinstance(part, Table):
            for header, cells in zip(part.columns, np.transpose(part.cells(figures)), strict=False):
                is_absent = name == "codebooks" and re.search("kmeans1d|faiss|ratio", header)
                assert is_absent or set(cells) != {"-"}, f"no figure under {header!r}"
    if name == "scale":
        assert (out / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_every_bench_is_tested():
    assert {*ARGUMENTS, "findings", "ranks"} == set(BENCHES)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["match", "--runs", "0"], "--runs must be >= 1, got 0; leave it out for the default"),
        (["memory", "--data", "missing"],
         "text must be a file, got missing, which is missing; check the path"),
        (["gptq", "--shapes", "6"],
         "--shapes must be outputs by inputs as in 2048x512, got '6'; correct it"),
        (["scalar", "--columns", "100"],
         "--columns must be a multiple of 128, got 100; that many share a scale"),
    ],
)  # fmt: skip
def test_refusals(arguments, text, capsys):
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err == f"ngrammix: error: {text}\n"


def test_the_sampler_needs_three_tokens(tmp_path, capsys):
    path = tmp_path / "s"
    path.write_bytes(b"ab")
    assert main(["bench", "scale", "--data", str(path)]) == 2
    text = "the sampler needs at least 3 tokens, got 2 in s; use more"
    assert capsys.readouterr().err == f"ngrammix: error: {text}\n"
