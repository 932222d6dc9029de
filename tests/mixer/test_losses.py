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


def test_torchs_names_are_understood(rng):
    logits, targets = torch.from_numpy(rng.normal(size=(2, 6, V))), rng.integers(0, V, (2, 6))
    ids = torch.from_numpy(targets)
    expected = Mixer(vocab_size=V).cross_entropy(logits, ids)
    options = {"weight": None, "label_smoothing": 0.0, "size_average": None, "reduce": None}
    for arguments in (
        {"input": logits, "target": ids},
        {"logits": logits, "targets": ids} | options,
    ):
        torch.testing.assert_close(Mixer(vocab_size=V).cross_entropy(**arguments), expected)
    loss = Mixer(vocab_size=V).cross_entropy(logits, target=ids, ignore_index=-1)
    torch.testing.assert_close(loss, expected)


NO_BITS = "; a {} is no number of bits: leave it out"
OLD = "; it is torch's old name for reduction: pass that"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight": 2}, "weight must be None, got 2" + NO_BITS.format("weighted mean")),
        ({"label_smoothing": 0.1},
         "label_smoothing must be 0.0, got 0.1" + NO_BITS.format("smoothed loss")),
        ({"size_average": True}, "size_average must be None, got True" + OLD),
        ({"reduce": False}, "reduce must be None, got False" + OLD),
        ({"input": np.zeros((2, V))}, "logits must be given once, got both logits and input; input "
                                      "is torch's name for logits"),
    ],
)  # fmt: skip
def test_options_that_are_no_bits_are_refused_by_name(options, text):
    mixer = Mixer(vocab_size=V)
    with pytest.raises(ValueError) as error:
        mixer.cross_entropy(np.zeros((2, V)), [0, 1], **options)
    assert str(error.value) == text
    assert mixer.position == 0


def test_a_missing_or_unknown_argument_is_named():
    mixer = Mixer(vocab_size=V)
    with pytest.raises(ValueError) as error:
        mixer.cross_entropy(np.zeros((2, V)))
    assert str(error.value) == (
        "targets must be given once, got neither targets and target; target is torch's name for "
        "targets"
    )
    with pytest.raises(TypeError) as error:
        mixer.cross_entropy(np.zeros((2, V)), [0, 1], labels=[0, 1])
    assert str(error.value) == "cross_entropy() got an unexpected keyword argument 'labels'"


LAST = (
    "these are of the last position alone, as nanoGPT returns them without targets: call model(x, "
    "y), or ask the model for all positions"
)
MISTAKES = {
    "the last position": ((2, 1, V), (2, 6), LAST),
    "the last position, squeezed": ((2, V), (2, 6), LAST),
    "the last position of a row": ((1, V), (6,), LAST),
    "logits not shifted": ((2, 6, V), (2, 5),
                           "the last row is for a token that has no target: pass "
                           "logits[..., :-1, :]"),
    "labels not shifted": ((2, 5, V), (2, 6),
                           "targets begin with the first input, as labels often do: pass "
                           "targets[..., 1:]"),
    "transposed, as torch has it": ((2, V, 6), (2, 6),
                                    "the vocabulary is the last axis here: leave out the "
                                    "transpose"),
    "targets flat": ((2, 6, V), (12,),
                     "flatten both or neither: logits.view(-1, V) and targets.view(-1)"),
    "logits flat": ((12, V), (2, 6),
                    "flatten both or neither: logits.view(-1, V) and targets.view(-1)"),
    "another width": ((2, 6, V + 1), (2, 6), "set vocab_size to the width of the model's output"),
    "another number": ((2, 9, V), (2, 6), "pass the row of each target, and no others"),
    "no rows": ((V,), (6,), LAST),
    "one target": ((3, V), (), "pass the row of each target, and no others"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_the_usual_mistakes_of_shape_have_names(case):
    logits, targets, mend = MISTAKES[case]
    mixer = Mixer(vocab_size=V)
    with pytest.raises(ValueError) as error:
        mixer.cross_entropy(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))
    assert str(error.value) == (
        f"logits must have shape {(*targets, V)}, the shape of targets and then vocab_size, got "
        f"{logits}; {mend}"
    )
    assert mixer.position == 0


@pytest.mark.parametrize(("mark", "ignored"), [(-1, -100), (-100, -1)])
def test_a_mark_that_is_not_ignored_is_named(mark, ignored):
    mixer = Mixer(vocab_size=V)
    with pytest.raises(ValueError) as error:
        mixer.cross_entropy(np.zeros((3, V)), [0, mark, 1], ignore_index=ignored)
    assert str(error.value) == (
        f"targets must be in [0, {V}), got {mark} at position 1; pass ignore_index={mark} if it "
        "marks targets that do not count"
    )
    mixer.cross_entropy(np.zeros((3, V)), [0, mark, 1], ignore_index=mark)
    assert mixer.position == 2
