"""Logits on a GPU: what is read of them is what the host reads, and what cannot be is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ngrammix import Mixer, device_rows
from ngrammix.logits import _DeviceReader, _HostReader, lookup_logprobs, read_logits
from tests.cuda.networks import needs_gpu

pytestmark = needs_gpu
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
FIELDS = ("log_p", "entropy", "log_top", "log_hints")


def rows(n, v, dtype=torch.float32, seed=0):
    """Logits (n, v) on the GPU, some of them -inf, and targets that are possible."""
    rng = np.random.default_rng(seed)
    values = rng.normal(scale=4, size=(n, v))
    values[rng.random((n, v)) < 0.1] = -np.inf
    targets = rng.integers(0, v, n)
    values[np.arange(n), targets] = rng.normal(size=n)
    return torch.from_numpy(values).to("cuda", dtype), targets


@pytest.fixture(params=["by Triton", "by torch"])
def way(request, monkeypatch):
    """Each of the two ways to read; the first must be there where Triton is."""
    if request.param == "by torch":
        monkeypatch.setattr(device_rows, "fused_reader", lambda device: None)
        monkeypatch.setattr(device_rows, "BLOCK", 100_000)  # several blocks
    else:
        pytest.importorskip("triton")
        assert device_rows.fused_reader(torch.device("cuda", 0)) is not None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "v"),
    [(0, 5), (1, 1), (7, 2), (9, 16), (9, 17), (300, 1024), (33, 50_257), (9, 4096), (9, 4097)],
)
def test_a_gpu_reads_what_the_host_reads(rng, way, dtype, n, v):
    logits, targets = rows(n, v, dtype)
    hints = rng.integers(-1, v, (n, 3))
    device = read_logits(logits, targets, np.arange(n))
    assert isinstance(device, _DeviceReader)
    host = _HostReader(logits.cpu(), targets, np.arange(n))
    for part in (slice(None), slice(1, 6)):
        expected, actual = host.lookup(hints[part], part), device.lookup(hints[part], part)
        np.testing.assert_array_equal(actual.top, expected.top)
        for name in FIELDS:
            array = getattr(actual, name)
            assert array.flags.c_contiguous
            np.testing.assert_allclose(array, getattr(expected, name), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("view", ["columns", "transposed", "every second row", "one row, repeated"])
def test_views_are_read_where_they_lie(way, view):
    base, targets = rows(40, 66)
    logits = {
        "columns": base[:, ::2],
        "transposed": base.T.contiguous().T,
        "every second row": base[::2],
        "one row, repeated": base[:1].expand(40, -1),
    }[view]
    targets = logits.argmax(dim=1).cpu().numpy()
    actual = lookup_logprobs(logits, targets, np.arange(len(logits)))
    expected = lookup_logprobs(logits.cpu(), targets, np.arange(len(logits)))
    for name in FIELDS:
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-12)


def test_extreme_logits_are_those_of_the_host(way):
    values = np.array([
        [3e38, 3e38, -3e38, 0.0], [-3e38, -3e38, -3e38, -3e38], [0.0, -1e30, -1e9, -np.inf],
        [700.0, -100.0, 0.0, 1.0], [2.0, 3.0, 3.0, 3.0],
    ])  # fmt: skip
    targets = np.array([0, 2, 0, 3, 1])
    actual = lookup_logprobs(torch.tensor(values, device="cuda"), targets, np.arange(5))
    expected = lookup_logprobs(values, targets, np.arange(5))
    np.testing.assert_array_equal(actual.top, expected.top)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(actual, name), getattr(expected, name), rtol=1e-12)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gpu_refuses_what_the_host_refuses(way, wrong, dtype):
    logits = torch.zeros((3, 5000), dtype=dtype)
    logits[1, 4999] = wrong
    texts = []
    for device in ("cpu", "cuda"):
        with pytest.raises(ValueError) as caught:
            read_logits(logits.to(device), np.full(3, 4999), np.array([7, 8, 9]))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "position 8" in texts[0]


def test_the_two_ways_agree():
    """Both in float64: they add in another order."""
    logits, targets = rows(3000, 5000, torch.bfloat16)
    on_device = torch.from_numpy(targets).cuda()
    ways = [read(logits, on_device) for read in (device_rows.read, device_rows.read_block)]
    torch.testing.assert_close(*ways, rtol=1e-13, atol=1e-13)


def test_a_kernel_that_does_not_compile_leaves_the_other_way(monkeypatch):
    pytest.importorskip("triton")
    from ngrammix.kernels import softmax_triton

    def broken(*tensors):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(softmax_triton, "read", broken)
    device_rows.fused_reader.cache_clear()
    try:
        assert device_rows.fused_reader(torch.device("cuda", 0)) is None
        logits, targets = rows(9, 7)
        actual = read_logits(logits, targets, np.arange(9)).lookup()
        expected = read_logits(logits.cpu(), targets, np.arange(9)).lookup()
        np.testing.assert_allclose(actual.log_p, expected.log_p, rtol=1e-12)
    finally:
        device_rows.fused_reader.cache_clear()


def test_probabilities_are_refused():
    logits, targets = rows(20, 300)
    with pytest.raises(ValueError, match="logits must not be normalized"):
        Mixer(vocab_size=300).score(logits.softmax(dim=-1), targets)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_that_of_the_host_and_stays_on_the_gpu(dtype):
    logits, targets = rows(600, 64, dtype)
    targets = torch.from_numpy(targets)
    nats = [
        Mixer(vocab_size=64).cross_entropy(logits.to(where), targets.to(where), reduction="none")
        for where in ("cpu", "cuda")
    ]
    assert (nats[1].device.type, nats[1].dtype) == ("cuda", dtype)
    torch.testing.assert_close(nats[1].cpu(), nats[0])
    alone = F.cross_entropy(logits.double(), targets.cuda(), reduction="sum")
    mixer = Mixer(vocab_size=64)
    mixer.score(logits, targets)
    assert mixer.regret_bits <= mixer.bound_bits + 1e-9
    assert float(nats[1].double().sum()) < float(alone) + 1 + 0.01 * 600


@pytest.mark.parametrize("context", ["autocast", "inference_mode", "no_grad", "another stream"])
def test_scores_do_not_depend_on_where_they_are_read(context):
    logits, targets = rows(200, 64)
    expected = Mixer(vocab_size=64).score(logits, targets)
    modes = {
        "autocast": lambda: torch.autocast("cuda", torch.bfloat16),
        "inference_mode": torch.inference_mode, "no_grad": torch.no_grad,
        "another stream": lambda: torch.cuda.stream(torch.cuda.Stream()),
    }  # fmt: skip
    torch.cuda.synchronize()
    with modes[context]():
        actual = Mixer(vocab_size=64).score(logits.clone(), targets)
    np.testing.assert_array_equal(actual, expected)


def test_logits_with_a_gradient_are_read():
    logits, targets = rows(20, 64)
    expected = Mixer(vocab_size=64).score(logits, targets)
    np.testing.assert_array_equal(
        Mixer(vocab_size=64).score(logits.requires_grad_(), targets), expected
    )


def test_reading_transfers_a_few_numbers_a_row(monkeypatch):
    """Copies to the host: 64 logits of the first row, one flag, 5 + M numbers a row."""
    logits, targets = rows(400, 5000)
    n_copied = []
    copy = torch.Tensor.cpu
    monkeypatch.setattr(
        torch.Tensor, "cpu", lambda tensor: n_copied.append(tensor.numel()) or copy(tensor)
    )
    read_logits(logits, targets, np.arange(400)).lookup(np.zeros((400, 3), np.int64))
    assert n_copied == [64, 400 * 8]


def test_the_memory_of_reading_does_not_grow_with_the_rows():
    logits, targets = rows(8192, 5000, torch.bfloat16)
    peaks = []
    for n in (4096, 8192):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        read_logits(logits[:n], targets[:n], np.arange(n)).lookup()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] - peaks[0] < 4096 * 200
