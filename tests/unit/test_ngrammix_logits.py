"""Gathering: numpy and torch agree, dtypes widen exactly, rows do not feel their neighbours."""

import numpy as np
import pytest
import torch

from ngrammix.logits import _gather_array, _gather_tensor, entropy_of, gather, probabilities


def logits_and_targets(rng, n, v):
    logits = rng.normal(scale=4, size=(n, v)).astype(np.float32)
    logits[rng.random((n, v)) < 0.1] = -np.inf
    targets = rng.integers(0, v, n)
    logits[np.arange(n), targets] = rng.normal(size=n)
    return logits, targets


def test_log_probability_and_entropy_are_what_the_softmax_says(rng):
    logits, targets = logits_and_targets(rng, 20, 7)
    gathered = gather(logits, targets, np.arange(20))
    for row, target, log_p, entropy in zip(
        logits, targets, gathered.log_p, gathered.entropy, strict=True
    ):
        p = probabilities(row)
        assert log_p == pytest.approx(np.log(p[target]), rel=1e-12)
        assert entropy == pytest.approx(entropy_of(p), rel=1e-12)


def test_the_path_of_a_device_agrees_with_the_path_of_the_host(rng):
    logits, targets = logits_and_targets(rng, 50, 33)
    for host, device in zip(
        _gather_array(logits, targets),
        _gather_tensor(torch.from_numpy(logits), targets),
        strict=True,
    ):
        np.testing.assert_allclose(host, device, rtol=1e-12)


@pytest.mark.parametrize("v", [1, 2, 63, 1024, 40_001])
def test_a_row_alone_gives_the_bits_it_gives_among_others(rng, v):
    logits, targets = logits_and_targets(rng, 37, v)
    whole = gather(logits, targets, np.arange(37))
    for i in range(37):
        row = gather(logits[i : i + 1], targets[i : i + 1], np.arange(1))
        assert row.log_p[0] == whole.log_p[i]
        assert row.entropy[0] == whole.entropy[i]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_narrow_floats_are_widened_not_computed_with(rng, dtype):
    tensor = torch.from_numpy(rng.normal(size=(9, 12))).to(dtype).requires_grad_()
    targets = rng.integers(0, 12, 9)
    expected = gather(tensor.detach().double().numpy(), targets, np.arange(9))
    gathered = gather(tensor, targets, np.arange(9))
    np.testing.assert_array_equal(gathered.log_p, expected.log_p)
    np.testing.assert_array_equal(gathered.entropy, expected.entropy)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e30, 0.0, -1e30]])
    gathered = gather(logits, np.array([0]), np.array([0]))
    assert gathered.log_p[0] == 0.0
    assert gathered.entropy[0] == 0.0
