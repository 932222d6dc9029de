"""The drop-in for an eval loop: torch's meaning, shapes and dtypes, and every position once."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import Mixer

V = 7
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@st.composite
def batches(draw):
    """(logits (B, T, V) or (N, V), targets), of which some are ignored."""
    shape = draw(st.sampled_from([(1,), (9,), (2, 5), (3, 1)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = torch.from_numpy(rng.normal(size=(*shape, V)) * 3)
    targets = torch.from_numpy(rng.integers(0, V, shape))
    if draw(st.booleans()):
        targets[torch.from_numpy(rng.random(shape) < 0.4)] = -100
    return logits, targets


@given(batches(), st.sampled_from(["none", "mean", "sum"]), st.sampled_from(DTYPES))
def test_without_evidence_it_is_torchs(batch, reduction, dtype):
    """At order 1 the mixture is the model itself: torch is the judge of meaning and rounding."""
    logits, targets = batch[0].to(dtype), batch[1]
    loss = Mixer(vocab_size=V, order=1).cross_entropy(logits, targets, reduction=reduction)
    exact = F.cross_entropy(
        logits.double().reshape(-1, V), targets.reshape(-1), reduction=reduction
    )
    exact = exact.reshape(targets.shape if reduction == "none" else ())
    assert loss.dtype == dtype
    assert loss.shape == exact.shape
    rounding = max(torch.finfo(dtype).eps, 1e-12)
    np.testing.assert_allclose(loss.double(), exact.to(dtype).double(), rtol=rounding, atol=1e-14)


@given(batches())
def test_the_losses_are_those_of_score(batch):
    logits, targets = batch
    nats = Mixer(vocab_size=V).score(logits, targets)
    mixer = Mixer(vocab_size=V)
    loss = mixer.cross_entropy(logits, targets, reduction="none")
    np.testing.assert_array_equal(loss.numpy(), nats)
    assert mixer.position == (targets != -100).sum()


def test_numpy_comes_back_as_numpy(rng):
    logits, targets = rng.normal(size=(5, V)).astype(np.float32), rng.integers(0, V, 5)
    loss = Mixer(vocab_size=V).cross_entropy(logits, targets, reduction="none")
    assert isinstance(loss, np.ndarray)
    assert loss.dtype == np.float32
    total = Mixer(vocab_size=V).cross_entropy(logits, targets, reduction="sum")
    assert (total.dtype, total.shape) == (np.float32, ())
    assert math.isnan(Mixer(vocab_size=V).cross_entropy(logits, np.full(5, -100)))


def test_ignore_index_may_be_a_token(rng):
    logits = torch.from_numpy(rng.normal(size=(6, V)))
    targets = torch.tensor([1, 3, 3, 2, 3, 0])
    loss = Mixer(vocab_size=V, order=1).cross_entropy(logits, targets, ignore_index=3)
    exact = F.cross_entropy(logits, targets, ignore_index=3)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-12)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_windows_that_score_each_position_once_are_taken(n_tokens, context, stride, masks):
    """A sliding window as Parameter Golf slides it: the last `stride` targets of each window."""
    stride = min(stride, context)
    rng = np.random.default_rng(n_tokens)
    tokens, logits = rng.integers(0, V, n_tokens), rng.normal(size=(n_tokens, V))
    mixer, nats, stop = Mixer(vocab_size=V, order=3), [], 0
    while stop < n_tokens:
        first, stop = stop, min(stop + (stride if stop else context), n_tokens)
        start = max(stop - context, 0)
        if masks:  # the whole window, what was scored before masked
            targets = np.where(np.arange(start, stop) < first, -100, tokens[start:stop])
            rows, positions = logits[start:stop], np.arange(start, stop)
        else:
            targets, rows, positions = tokens[first:stop], logits[first:stop], first
        loss = mixer.cross_entropy(rows, targets, reduction="none", positions=positions)
        nats.append(loss[targets != -100])
    np.testing.assert_array_equal(
        np.concatenate(nats), Mixer(vocab_size=V, order=3).score(logits, tokens)
    )


NEXT = "position {} must be scored next, got {}"
TWICE = NEXT + ", which was scored before; pass only targets that no earlier window scored"
GAP = NEXT + "; score or learn the tokens between first, in the order of the stream"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"positions": 3}, TWICE.format(4, 3)),
        ({"positions": 5}, GAP.format(4, 5)),
        ({"positions": [4, 4]}, TWICE.format(5, 4)),
        ({"positions": [5, 4]}, GAP.format(4, 5)),
        ({"positions": [4]}, "positions must be one integer, or have the shape of targets (2,), "
                             "got (1,); pass the position of each target in the stream"),
        ({"positions": 4.5}, "positions must be integer positions, got dtype float64; cast "
                             "them first if they really are positions"),
        ({"reduction": "batchmean"}, "reduction must be one of none, mean, sum, got 'batchmean'; "
                                     'leave it out for "mean"'),
    ],
)  # fmt: skip
def test_refused_and_nothing_is_learned(rng, options, text):
    mixer, logits = Mixer(vocab_size=V), rng.normal(size=(6, V))
    mixer.cross_entropy(logits[:4], [0, 1, 2, 3], positions=0)
    with pytest.raises(ValueError) as error:
        mixer.cross_entropy(logits[4:], [0, 1], **options)
    assert str(error.value) == text
    assert mixer.position == 4
    mixer.cross_entropy(logits[4:], [0, 1], positions=4)


def test_a_loss_that_is_no_leaf_has_no_gradient():
    logits = torch.zeros(3, V, requires_grad=True)
    loss = Mixer(vocab_size=V).cross_entropy(logits * 2, torch.tensor([0, 1, 2]))
    assert not loss.requires_grad
