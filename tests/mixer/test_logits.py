"""Log-probabilities from logits: numpy and torch agree, and rows are independent."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ngrammix.logits import _DeviceReader, _HostReader, lookup_logprobs, probabilities


def logits_and_targets(rng, n, v):
    logits = rng.normal(scale=4, size=(n, v)).astype(np.float32)
    logits[rng.random((n, v)) < 0.1] = -np.inf
    targets = rng.integers(0, v, n)
    logits[np.arange(n), targets] = rng.normal(size=n)
    return logits, targets


def test_log_probability_and_entropy_are_what_the_softmax_says(rng):
    logits, targets = logits_and_targets(rng, 20, 7)
    logprobs = lookup_logprobs(logits, targets, np.arange(20))
    for row, target, log_p, entropy in zip(
        logits, targets, logprobs.log_p, logprobs.entropy, strict=True
    ):
        p, reader = probabilities(row)
        same_entropy = reader.lookup(np.empty((1, 0), np.int64)).entropy
        assert log_p == pytest.approx(np.log(p[target]), rel=1e-12)
        assert entropy == same_entropy[0]
        possible = p[p > 0]
        assert entropy == pytest.approx(-(possible * np.log(possible)).sum(), rel=1e-12)


@pytest.mark.kernels
def test_hints_are_targets_that_may_be_impossible(rng):
    logits, targets = logits_and_targets(rng, 200, 7)
    hints = rng.integers(-1, 7, (200, 3))
    log_hints = lookup_logprobs(logits, targets, np.arange(200), hints).log_hints
    for m in range(3):
        is_possible = (hints[:, m] >= 0) & (logits[np.arange(200), hints[:, m]] > -np.inf)
        assert (log_hints[~is_possible, m] == -np.inf).all()
        rows, tokens = logits[is_possible], hints[is_possible, m]
        as_targets = lookup_logprobs(rows, tokens, np.arange(len(rows)))
        np.testing.assert_array_equal(log_hints[is_possible, m], as_targets.log_p)


@pytest.mark.parametrize("pack", [np.asarray, torch.from_numpy])
def test_hints_change_nothing_else(rng, pack):
    logits, targets = logits_and_targets(rng, 20, 33)
    alone = lookup_logprobs(pack(logits), targets, np.arange(20))
    assert alone.log_hints.shape == (20, 0)
    beside = lookup_logprobs(pack(logits), targets, np.arange(20), rng.integers(-1, 33, (20, 2)))
    assert beside.log_hints.shape == (20, 2)
    np.testing.assert_array_equal(alone.log_p, beside.log_p)
    np.testing.assert_array_equal(alone.entropy, beside.entropy)


@pytest.mark.parametrize("n", [0, 1, 50])
@pytest.mark.parametrize("block", [1, 100, 1 << 26])
def test_the_path_of_a_device_agrees_with_the_path_of_the_host(rng, monkeypatch, n, block):
    monkeypatch.setattr("ngrammix.device_rows.BLOCK", block)
    logits, targets = logits_and_targets(rng, n, 33)
    hints = rng.integers(-1, 33, (n, 2))
    host = _HostReader(logits, targets, np.arange(n))
    device = _DeviceReader(torch.from_numpy(logits), targets, np.arange(n))
    for rows in (slice(None), slice(3, 20)):
        expected, actual = host.lookup(hints[rows], rows), device.lookup(hints[rows], rows)
        np.testing.assert_array_equal(actual.top, expected.top)
        for name in ("log_p", "entropy", "log_top", "log_hints"):
            array = getattr(actual, name)
            assert array.flags.c_contiguous
            np.testing.assert_allclose(array, getattr(expected, name), rtol=1e-12)


@pytest.mark.parametrize("pack", [_HostReader, lambda z, *a: _DeviceReader(torch.tensor(z), *a)])
def test_the_top_token_is_the_first_of_the_largest(pack):
    logits = np.array([[1.0, 3.0, 3.0, -np.inf], [2.0, 0.0, 0.0, 2.0]])
    logprobs = pack(logits, np.array([0, 1]), np.arange(2)).lookup(np.empty((2, 0), np.int64))
    assert logprobs.top.tolist() == [1, 0]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logprobs.log_top, np.log(p.max(axis=1)), rtol=1e-14)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_device_refuses_what_the_host_refuses(wrong):
    logits = np.zeros((3, 4))
    logits[1, 2] = wrong
    texts = []
    for make, pack in ((_HostReader, np.asarray), (_DeviceReader, torch.from_numpy)):
        with pytest.raises(ValueError) as caught:
            make(pack(logits), np.full(3, 2), np.array([7, 8, 9]))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "position 8" in texts[0]


@pytest.mark.parametrize("v", [1, 2, 63, 1024, 40_001])
def test_a_row_alone_gives_the_bits_it_gives_among_others(rng, v):
    logits, targets = logits_and_targets(rng, 37, v)
    whole = lookup_logprobs(logits, targets, np.arange(37))
    for i in range(37):
        row = lookup_logprobs(logits[i : i + 1], targets[i : i + 1], np.arange(1))
        assert row.log_p[0] == whole.log_p[i]
        assert row.entropy[0] == whole.entropy[i]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_narrow_floats_are_widened_not_computed_with(rng, dtype):
    tensor = torch.from_numpy(rng.normal(size=(9, 12))).to(dtype).requires_grad_()
    targets = rng.integers(0, 12, 9)
    expected = lookup_logprobs(tensor.detach().double().numpy(), targets, np.arange(9))
    logprobs = lookup_logprobs(tensor, targets, np.arange(9))
    np.testing.assert_array_equal(logprobs.log_p, expected.log_p)
    np.testing.assert_array_equal(logprobs.entropy, expected.entropy)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_numpy_floats_of_any_width(rng, dtype):
    logits = rng.normal(size=(9, 12)).astype(dtype)[:, ::2]
    targets = rng.integers(0, 6, 9)
    logprobs = lookup_logprobs(logits, targets, np.arange(9))
    for row, target, log_p in zip(logits, targets, logprobs.log_p, strict=True):
        expected = float(row[target]) - math.log(math.fsum(math.exp(z) for z in row.tolist()))
        assert log_p == pytest.approx(expected, rel=1e-13)


@pytest.mark.kernels
@given(
    st.lists(st.floats(-800, 800) | st.just(-math.inf), min_size=1, max_size=20),
    st.floats(-800, 800),
)
def test_any_row_agrees_with_exact_sums(others, target):
    logits = np.array([[target, *others]])
    logprobs = lookup_logprobs(logits, np.array([0]), np.array([0]))
    top = max(target, *others)
    weights = [math.exp(z - top) for z in [target, *others]]
    log_total = math.log(math.fsum(weights))
    assert logprobs.log_p[0] == pytest.approx(target - top - log_total, rel=1e-13, abs=1e-13)
    terms = [w * (z - top) for w, z in zip(weights, [target, *others], strict=True) if w > 0]
    entropy = log_total - math.fsum(terms) / math.fsum(weights)
    assert logprobs.entropy[0] == pytest.approx(entropy, rel=1e-13, abs=1e-13)


def test_huge_logits_do_not_overflow():
    logits = np.array([[1e30, 0.0, -1e30]])
    logprobs = lookup_logprobs(logits, np.array([0]), np.array([0]))
    assert logprobs.log_p[0] == 0.0
    assert logprobs.entropy[0] == 0.0
