"""``ngrammix bench codebooks``: the peers, where they are installed, and the rest without them."""

import numpy as np
import pytest

from eval.bench import codebooks as bench


def test_faiss_has_no_less_error(rng):
    if bench.find_spec("faiss") is None:
        pytest.skip("needs faiss, a peer")
    result = bench.measure_vectors(rng.standard_normal((256, 256)).astype(np.float32), 1)
    assert result["error_ratio"] <= bench.MAX_ERROR


def test_kmeans1d_has_no_less_error(rng):
    if bench.find_spec("kmeans1d") is None:
        pytest.skip("needs kmeans1d, a peer")
    for row in bench.measure_numbers(rng.standard_t(5, 3000), 1):
        assert row["mse_exact"] <= row["mse_kmeans1d"] * (1 + 1e-12)


def fail(*arguments):
    raise RuntimeError("no such thing")


def test_a_peer_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(bench, "find_spec", lambda name: name)
    monkeypatch.setattr(bench, "in_own_process", fail)
    with pytest.raises(ValueError) as caught:
        bench.peer("faiss", np.zeros(3))
    assert str(caught.value) == (
        "faiss must run in a process of its own, got RuntimeError('no such thing'); reinstall or "
        "remove it"
    )
