"""``ngrammix bench codebooks``: the peers, where they are installed, and the rest without them."""

import json

import numpy as np
import pytest

from eval.bench import codebooks as bench
from eval.cli import main


def test_bench_codebooks_measures_every_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    arguments = ["bench", "codebooks", "--values", "500", "--rows", "8", "--runs", "1"]
    assert main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "codebooks.json").read_text()) == result
    assert [row["k"] for row in result["numbers"]] == [16, 64, 256]
    errors = [row["mse_exact"] for row in result["numbers"]]
    assert errors == sorted(errors, reverse=True)
    for row in result["numbers"]:
        assert 0 < row["mse_exact"] <= row["mse_iterative"]
        assert row["mse_kmeans1d"] is row["seconds_kmeans1d"] is None
    assert result["vectors"]["vectors"] == 512
    assert 0 < result["vectors"]["relative_mse"] < 1
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert table.startswith("500 numbers: mean squared error")
    assert table.endswith("not installed: kmeans1d, faiss\n")


def test_faiss_has_no_less_error(rng):
    if bench.find_spec("faiss") is None:
        pytest.skip("needs faiss, a peer")
    result = bench.measure_vectors(rng.standard_normal((256, 256)).astype(np.float32), 1)
    assert result["error_ratio"] <= bench.MOST_ERROR


def test_kmeans1d_has_no_less_error(rng):
    if bench.find_spec("kmeans1d") is None:
        pytest.skip("needs kmeans1d, a peer")
    for row in bench.measure_numbers(rng.standard_t(5, 3000), 1):
        assert row["mse_exact"] <= row["mse_kmeans1d"] * (1 + 1e-12)


def test_a_peer_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda name: name)
    monkeypatch.setitem(bench.SCRIPTS, "faiss", "import sys; sys.exit('no such thing')")
    with pytest.raises(ValueError) as caught:
        bench.peer("faiss", np.zeros(3))
    assert str(caught.value) == (
        "faiss must run in a process of its own, got 'no such thing'; correct its installation, or "
        "remove it"
    )
