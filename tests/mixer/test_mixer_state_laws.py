"""Laws of the mixer's two halves, and of saving it: the bits are those of one call to `score`."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrammix import Mixer, NgramCache, SnapshotError, snapshot
from ngrammix.experts.choices import ALL, CHOICES
from ngrammix.logits import lookup_logprobs

pytestmark = pytest.mark.kernels

VOCAB_SIZE = 12
LIMIT = "4 MiB"  # keeps the match model's slots few: they are all in a saved file


@st.composite
def streams(draw):
    """(logits (T, V), tokens (T,), cuts from 0 to T): few tokens come, so that contexts do."""
    tokens = np.array(draw(st.lists(st.integers(0, 3), min_size=1, max_size=60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(len(tokens), VOCAB_SIZE)) * draw(st.sampled_from([0.0, 1.0, 4.0]))
    cuts = sorted(draw(st.sets(st.integers(1, len(tokens)))) | {0, len(tokens)})
    return logits, tokens, cuts


def make(experts=ALL):
    return Mixer(vocab_size=VOCAB_SIZE, order=4, experts=experts, memory_limit=LIMIT)


def lookup(logits, observed):
    return lookup_logprobs(logits, observed.tokens, np.arange(len(observed)), observed.hint_tokens)


@given(streams(), st.sampled_from(CHOICES), st.integers(0, 3))
def test_tokens_may_be_observed_ahead_of_the_model(stream, experts, ahead):
    logits, tokens, cuts = stream
    whole, halves = make(experts), make(experts)
    expected = whole.trace(logits, tokens)
    waiting, traces = [], []
    for start, stop in pairwise(cuts):
        waiting.append((logits[start:stop], halves.observe(tokens[start:stop])))
        while len(waiting) > ahead:
            rows, observed = waiting.pop(0)
            traces.append(halves.score_observed(observed, lookup(rows, observed)))
    traces += [
        halves.score_observed(observed, lookup(rows, observed)) for rows, observed in waiting
    ]
    for name in ("nats", "nats_model", "matched_order"):
        parts = np.concatenate([getattr(trace, name) for trace in traces])
        np.testing.assert_array_equal(parts, getattr(expected, name))
    assert halves.regret_bits == whole.regret_bits


@given(streams())
def test_what_is_observed_depends_on_the_tokens_before(stream):
    _logits, tokens, _cuts = stream
    observed, cache = make().observe(tokens), NgramCache(vocab_size=VOCAB_SIZE, order=4)
    for i, token in enumerate(tokens):
        cost = -np.log(cache.distribution()[token])
        assert observed.nats_cache(VOCAB_SIZE)[i] == pytest.approx(cost, rel=1e-9)
        cache.learn([token])
    windows = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    repeats = [False] * min(3, len(tokens)) + [w in windows[:i] for i, w in enumerate(windows)]
    assert observed.is_repeat.tolist() == repeats


@settings(max_examples=30)
@given(streams(), st.sampled_from(CHOICES), st.booleans())
def test_a_resumed_mixer_continues_with_the_same_bits(tmp_path_factory, stream, experts, cut):
    logits, tokens, cuts = stream
    path = tmp_path_factory.getbasetemp() / "mixer"
    whole, pieces = make(experts), make(experts)
    for start, stop in pairwise(cuts):
        kept = whole.score(logits[start:stop], tokens[start:stop])
        resumed = pieces.score(logits[start:stop], tokens[start:stop])
        np.testing.assert_array_equal(resumed, kept)
        if cut:
            whole.boundary()
            pieces.boundary()
        pieces.save(path)
        pieces = Mixer.load(path)
    assert pieces.position == whole.position == len(tokens)
    assert (pieces.regret_bits, pieces.bound_bits) == (whole.regret_bits, whole.bound_bits)
    assert (pieces.experts, pieces.nbytes) == (whole.experts, whole.nbytes)
    np.testing.assert_array_equal(pieces.probs(logits[0]), whole.probs(logits[0]))


def test_halves_out_of_order_are_refused(rng):
    mixer, logits = make(), rng.normal(size=(3, VOCAB_SIZE))
    first, second = mixer.observe([0, 1]), mixer.observe([2])
    order = (
        "observed batches must be scored once, in order: position {} is next, got a batch from "
        "position {}; score what observe returned in the order of the calls"
    )
    lengths = (
        "logprobs must have one row for each observed token, got 1 rows for 2 tokens from position "
        "0; look up observed.tokens and observed.hint_tokens"
    )
    unscored = (
        "all observed tokens must be scored first, got 3 unscored ones from position 0; pass what "
        "observe returned to score_observed"
    )
    calls = {
        order.format(0, 2): lambda: mixer.score_observed(second, lookup(logits[2:], second)),
        lengths: lambda: mixer.score_observed(first, lookup(logits[2:], second)),
    }
    for call in (
        lambda: mixer.probs(logits[0]),
        lambda: mixer.save("never-written"),
        lambda: mixer.score(logits, [0, 1, 2]),
        lambda: mixer.learn([0]),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == unscored
    for text, call in calls.items():
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == text
    mixer.score_observed(first, lookup(logits[:2], first))
    with pytest.raises(ValueError) as error:
        mixer.score_observed(first, lookup(logits[:2], first))
    assert str(error.value) == order.format(2, 0)
    mixer.score_observed(second, lookup(logits[2:], second))
    assert mixer.position == 3
    straight = make()
    straight.score(logits, [0, 1, 2])
    assert mixer.regret_bits == straight.regret_bits


@pytest.mark.parametrize(
    ("experts", "name", "change", "text"),
    [
        (ALL, "experts gate weights", lambda a: a * [9.0, 1.0], "a weight of the gate"),
        (ALL, "experts tilt slopes", lambda a: a - 9, "a sum of squares of the tilt is negative"),
        (ALL, "experts tilt slopes", lambda a: a * np.nan, "tilt slopes is not finite"),
        (ALL, "experts guard odds", lambda a: a[:1], "guard odds has the wrong shape or dtype"),
        ("gate+switch", "experts guard tokens", lambda a: a.astype(np.int64), "wrong shape or dty"),
        (ALL, "hints recent", lambda a: a + VOCAB_SIZE, "a recent token is out of range"),
        (ALL, "hints previous", lambda a: a - 5, "a recent token is out of range"),
        (ALL, "cache ends", lambda a: a + 99, "has an invalid row or time"),
        (ALL, "more", lambda a: np.zeros(1), "array more belongs to none of"),
        (ALL, "experts more", lambda a: np.zeros(1), "arrays must be ['gate trend'"),
        (ALL, "experts", lambda a: "gate+tilt", "experts must name tilt"),
    ],
)
def test_a_forged_mixer_is_refused(tmp_path, experts, name, change, text):
    mixer, path = make(experts), tmp_path / "mixer"
    mixer.learn([0, 1, 0])
    mixer.save(path)
    values, arrays = snapshot.read(path)
    part = values if name in values else arrays
    part[name] = change(part.get(name))
    snapshot.write(path, values, arrays)
    with pytest.raises(SnapshotError) as error:
        Mixer.load(path)
    assert str(error.value).startswith(f"{path} is damaged: ")
    assert text in str(error.value)


def test_a_saved_cache_is_no_mixer(tmp_path):
    NgramCache(vocab_size=4, order=2).save(tmp_path / "cache")
    with pytest.raises(SnapshotError) as error:
        Mixer.load(tmp_path / "cache")
    assert str(error.value).startswith(f"{tmp_path / 'cache'} is damaged: ")
