"""The metrics: every figure against plain sums, whatever the batches, and after a resume."""

import json
from itertools import pairwise
from math import fsum, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.bootstrap import BLOCK, standard_errors
from eval.scoring.metrics import Scored, ScoreMetrics
from eval.scoring.units import STEP, UnitSums, to_steps

ALL = {"has_model": True, "has_cache": True, "length": 3}


def make_scored(rng, lengths):
    """Random costs of documents of so many tokens."""
    n_tokens = sum(lengths)
    starts = np.cumsum([0, *lengths])[:-1]
    begins = np.zeros(n_tokens, np.bool_)
    begins[starts] = True
    model = rng.exponential(2, n_tokens)
    return Scored(
        tokens=rng.integers(0, 50, n_tokens), n_bytes=rng.integers(0, 9, n_tokens), begins=begins,
        nats=model * rng.uniform(0.5, 1, n_tokens), nats_model=model,
        nats_cache=rng.exponential(4, n_tokens), matched_order=rng.integers(1, 4, n_tokens),
        is_repeat=rng.random(n_tokens) < 0.2,
    )  # fmt: skip


def piece(scored, start, stop):
    return Scored(**{name: column[start:stop] for name, column in vars(scored).items()})


def resumed(metrics, options):
    """New metrics with the state of `metrics`, through JSON."""
    new = ScoreMetrics(**options)
    new.load_state_dict(json.loads(json.dumps(metrics.state_dict())))
    return new


def metrics_of(scored, cuts=(), **options):
    """The metrics of the tokens in pieces, restored from JSON after each."""
    metrics = ScoreMetrics(**(options or ALL))
    bounds = [0, *sorted(cuts), len(scored.tokens)]
    for start, stop in pairwise(bounds):
        metrics.update(piece(scored, start, stop))
        metrics = resumed(metrics, options or ALL)
    return metrics


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=60),
    st.lists(st.floats(0, 1), max_size=5),
    st.integers(0, 2**32),
)
def test_neither_cuts_nor_a_resume_change_a_bit(lengths, cuts, seed):
    scored = make_scored(np.random.default_rng(seed), lengths)
    whole, pieces = ScoreMetrics(**ALL), metrics_of(scored, [int(c * sum(lengths)) for c in cuts])
    whole.update(scored)
    assert pieces.compute() == whole.compute()
    assert pieces.state_dict() == whole.state_dict()
    whole.compute()
    assert pieces.state_dict() == whole.state_dict()


def test_figures_are_those_of_plain_sums(rng):
    lengths = rng.integers(1, 200, 50).tolist()
    scored = make_scored(rng, lengths)
    figures = metrics_of(scored, [100, 1000, 2500]).compute()
    n_bytes = scored.n_bytes.sum()
    assert figures["tokens"] == sum(lengths)
    assert figures["bytes"] == n_bytes
    assert figures["documents"] == 50
    for suffix in ("", "_model", "_cache"):
        bits = fsum(getattr(scored, f"nats{suffix}").tolist()) / log(2)
        assert figures[f"bits{suffix}"] == pytest.approx(bits, rel=1e-12)
        assert figures[f"bpb{suffix}"] == figures[f"bits{suffix}"] / n_bytes
    saved = figures["bits_model"] - figures["bits"]
    assert figures["bits_saved"] == pytest.approx(saved, rel=1e-12)
    over_cache = figures["bits"] - figures["bits_cache"]
    assert figures["bits_over_cache"] == pytest.approx(over_cache, rel=1e-12)


def test_standard_errors_are_of_documents_where_there_are_thirty(rng):
    lengths = [100] * 30
    scored = make_scored(rng, lengths)
    figures = metrics_of(scored, [50, 1234]).compute()
    expected = errors_of(scored, np.repeat(np.arange(30), 100))
    check_errors(figures, expected)
    assert figures["standard_error_unit"] == "documents"
    assert figures["saved_standard_error"] < figures["bpb_model_standard_error"]


def test_fewer_give_way_to_blocks(rng):
    scored = make_scored(rng, [500] * 29)
    figures = metrics_of(scored, [50, 1234]).compute()
    check_errors(figures, errors_of(scored, np.arange(500 * 29) // BLOCK))
    assert figures["standard_error_unit"] == "blocks of 1,024 tokens"


def errors_of(scored, unit):
    """Standard errors in bits of the three costs, of what was saved, and over the cache."""
    gaps = (scored.nats_model - scored.nats, scored.nats - scored.nats_cache)
    columns = (scored.nats, scored.nats_model, scored.nats_cache, *gaps, scored.n_bytes)
    *numerators, sizes = [np.bincount(unit, column) for column in columns]
    return standard_errors(np.array(numerators), sizes) / log(2)


def check_errors(figures, expected):
    names = ["bpb", "bpb_model", "bpb_cache", "saved", "over_cache"]
    errors = [figures[f"{name}_standard_error"] for name in names]
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


def test_copied_and_novel_are_scored_apart(rng):
    scored = make_scored(rng, [40, 1, 2, 57])
    scored.is_repeat[-3:] = False, False, True  # decided at the end of the stream
    copied = np.zeros(100, np.bool_)
    document = np.cumsum(scored.begins)
    for end in np.flatnonzero(scored.is_repeat):
        for i in range(max(0, end - 2), end + 1):
            copied[i] |= document[i] == document[end]
    figures = metrics_of(scored, [39, 41, 42]).compute()
    assert 0 < copied.sum() < 100
    assert figures["bytes_copied"] == scored.n_bytes[copied].sum()
    for part, inside in (("copied", copied), ("novel", ~copied)):
        for suffix in ("", "_model"):
            nats = getattr(scored, f"nats{suffix}")[inside].sum()
            bpb = nats / log(2) / scored.n_bytes[inside].sum()
            assert figures[f"bpb{suffix}_{part}"] == pytest.approx(bpb, rel=1e-11)


def test_what_a_run_does_not_have_is_none(rng):
    figures = metrics_of(make_scored(rng, [5]), length=None).compute()
    assert {name for name, value in figures.items() if value is None} == {
        "bits_model", "bpb_model", "bits_cache", "bpb_cache", "bits_saved",
        "bits_over_cache", "over_cache_standard_error",
        "bpb_standard_error", "bpb_model_standard_error", "bpb_cache_standard_error",
        "saved_standard_error", "bytes_copied", "bpb_copied", "bpb_novel", "bpb_model_copied",
        "bpb_model_novel",
    }  # fmt: skip
    assert set(figures) == set(metrics_of(make_scored(rng, [5])).compute())


def test_without_bytes_nothing_is_divided(rng):
    scored = make_scored(rng, [10] * 40)
    scored.n_bytes[:] = 0
    figures = metrics_of(scored).compute()
    assert figures["bits"] > 0
    assert figures["bytes_copied"] == 0
    assert {value for name, value in figures.items() if name.startswith(("bpb", "saved"))} == {None}


def test_nothing_scored_is_no_error():
    figures = ScoreMetrics(**ALL).compute()
    assert figures["tokens"] == figures["documents"] == figures["bits"] == 0
    assert figures["bpb"] is figures["bpb_standard_error"] is None


def leaves(state):
    """How many values a state holds."""
    if isinstance(state, dict | list):
        return sum(map(leaves, state.values() if isinstance(state, dict) else state))
    return 1


def test_memory_does_not_grow(rng):
    scored = make_scored(rng, [7] * 1000)
    metrics = metrics_of(scored)
    before = leaves(metrics.state_dict())
    for _ in range(5):
        metrics.update(scored)
    assert leaves(metrics.state_dict()) == before


def test_a_document_may_cost_more_than_63_bits_of_steps():
    units = UnitSums([STEP])
    units.update(np.zeros((1, 1), np.int64), np.array([0]))
    for _ in range(5):
        units.update(np.full((1, 1), 2**62), np.array([], np.int64))
    assert units.remaining() == 5 * 2.0**62 * STEP


@pytest.mark.parametrize("cost", [np.nan, np.inf, 1e8])
def test_a_cost_that_cannot_be_added_is_refused(rng, cost):
    metrics, scored = ScoreMetrics(**ALL), make_scored(rng, [10])
    metrics.update(scored)
    before = metrics.state_dict()
    scored.nats_model[3] = cost
    with pytest.raises(ValueError) as error:
        metrics.update(scored)
    total = np.abs(scored.nats_model).sum()
    assert str(error.value) == (
        f"costs must be finite and a batch's sum below 67,108,864 nats, got {total:g} for 10 "
        "tokens; look at the logits, or score fewer tokens at a time"
    )
    assert metrics.state_dict() == before


def test_steps_lose_less_than_half_a_step(rng):
    nats = rng.exponential(2, 1000)
    assert np.abs(to_steps(nats) * STEP - nats).max() <= STEP / 2


def test_a_missing_cost_is_named(rng):
    scored = make_scored(rng, [10])
    metrics = ScoreMetrics(has_model=True)
    metrics.update(scored)
    with pytest.raises(ValueError) as error:
        metrics.update(Scored(**(vars(scored) | {"nats_model": None})))
    assert str(error.value) == (
        "tokens must come with nats_model, got None; pass it, or ask for no figures of it"
    )


def test_a_stream_starts_with_a_document(rng):
    scored = make_scored(rng, [10])
    with pytest.raises(ValueError) as error:
        ScoreMetrics().update(piece(scored, 1, 10))
    assert str(error.value) == (
        "a stream must start with a document, got a first token that begins none; set begins there"
    )
