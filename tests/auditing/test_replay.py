"""Witnesses shown again: each kind, on scorers that mend or keep the fault, and hostile ones."""

import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrammix.auditing.replay import replay
from ngrammix.auditing.report import AuditReport, Finding
from ngrammix.auditing.witness import Witness

V = 16
MEND = "; pass a report as `audit` wrote it"


def uniform(tokens):
    return np.full(len(tokens), np.log(V))


def report_of(witness, **conditions):
    finding = Finding("C2", witness.position, witness, "found")
    return AuditReport("x", (finding,), conditions={"vocab_size": V, **conditions})


def shown(witness, score_fn=uniform, **options):
    (result,) = replay(report_of(witness), score_fn, **{"budget_seconds": 5.0, **options})
    return result


def test_the_distribution_that_is_shown_and_the_charge():
    witness = Witness("shown", (0.5, 0.1), "probability", (1, 2), position=2, tokens=(3,))
    right, other = np.full(V, 1 / V), np.append(np.full(V - 1, 0.5 / (V - 1)), 0.5)
    assert shown(witness, probs_fn=lambda prefix: right).is_shown is False
    assert shown(witness, probs_fn=lambda prefix: other).is_shown is True
    assert shown(witness).note == "it takes more than score_fn to show this witness"
    note = shown(witness, probs_fn=lambda prefix: right[:5]).note
    assert note == "probs_fn shows 5 probabilities"
    result = shown(witness, probs_fn=lambda prefix: {}["x"])
    assert (result.is_shown, "KeyError" in result.note) == (None, True)


def test_a_sum_that_the_budget_cuts_short_is_no_proof():
    slow = Witness("sum", (1.0, 0.5), "probability", (1,))

    def sleeps(tokens):
        time.sleep(0.05)
        return uniform(tokens)

    result = shown(slow, sleeps, budget_seconds=0.3)
    assert result.is_shown is None
    assert result.note.startswith("the budget ended after ")
    assert shown(slow).is_shown is False
    assert shown(slow, lambda tokens: uniform(tokens) / 2).is_shown is True
    part = Witness("sum", (1.0, 0.5), "probability", (1,), tokens=(0, 1, 2))
    assert shown(part).is_shown is False
    assert shown(part, lambda tokens: uniform(tokens) / 20).is_shown is True


@pytest.mark.parametrize(
    ("witness", "error"),
    [
        (Witness("future", (1.0, 2.0), stream=(1, 2), other=(1,), position=1),
         "the position of a witness must be in its streams, got 1 of 1 tokens" + MEND),
        (Witness("repeat", (1.0, 2.0), position=2**60),
         f"the position of a witness must be in its streams, got {2**60} of 0 tokens" + MEND),
        (Witness("range", (1.0, 2.0), stream=(1, 2), position=2),
         "the position of a witness must be in its streams, got 2 of 2 tokens" + MEND),
        (Witness("table", (1.0, 2.0), stream=(1, 2), tokens=(8,)),
         "the witness of a table must have 2 sizes, got 1" + MEND),
        (Witness("sum", (1.0, 2.0), stream=(1, 99)),
         "tokens must be in [0, 16), got 99 at position 1; raise vocab_size or check the "
         "tokenizer"),
        (Witness("shown", (1.0, 2.0), stream=(1,), tokens=(99,)),
         "tokens must be in [0, 16), got 99 at position 0; raise vocab_size or check the "
         "tokenizer"),
    ],
)  # fmt: skip
def test_what_is_no_witness_of_a_scorer_is_refused(witness, error):
    with pytest.raises(ValueError) as raised:
        shown(witness)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"vocab_size": None}, "vocab_size must be an integer >= 1, got None; pass an int"),
        ({"vocab_size": "x"}, "vocab_size must be an integer >= 1, got 'x'; pass an int"),
        ({"seed": "x"}, "seed must be an integer in 0..9223372036854775807, got 'x'; leave it "
         "out for the default"),
    ],
)  # fmt: skip
def test_the_conditions_of_a_report_are_checked(conditions, error):
    with pytest.raises(ValueError) as raised:
        replay(report_of(Witness("range", (0.0, 1.0), stream=(1,)), **conditions), uniform)
    assert str(raised.value) == error


ids = st.lists(st.integers(0, V), max_size=5).map(tuple)
kinds = st.sampled_from(["future", "sum", "range", "table", "shown", "repeat", "count", "logits"])


@settings(max_examples=40)
@given(st.builds(Witness, kinds, st.tuples(st.floats(), st.floats()), st.just("nats"), ids, ids,
                 st.none() | st.integers(0, 7), ids))  # fmt: skip
def test_any_witness_is_an_error_or_a_result(witness):
    with suppress(ValueError):
        result = shown(witness, probs_fn=lambda prefix: np.full(V, 1 / V))
        assert result.is_shown in (True, False, None)


def test_bets_are_made_again_on_the_same_streams():
    witness = Witness("bets", (1.0, 1e12), "probability", (1, 2), position=1, tokens=(1, 2))
    report = report_of(witness, seed=0, tokens_audited=300, n_positions=200)
    calls = []

    def learns_first(tokens):
        calls.append(len(tokens))
        counts, nats = np.ones(V), np.empty(len(tokens))
        for i, token in enumerate(tokens.tolist()):
            counts[token] += 1
            nats[i] = -np.log(counts[token] / (V + i + 1))
        return nats

    (again,) = replay(report, learns_first)
    assert again.is_shown
    assert calls[:25] == [300] * 25
    (fair,) = replay(report, uniform)
    assert fair.is_shown is False


def test_a_smaller_table_must_win_more_than_forgetting_explains():
    witness = Witness("table", (100.0, 50.0), "nats", tuple(range(4)) * 10, tokens=(1024, 64))

    def gains(share):
        return lambda tokens, table_size: np.full(len(tokens), 1.0 - share * (table_size == 64))

    assert [shown(witness, gains(share)).is_shown for share in (0.0, 0.02, 0.5)] == [
        False, False, True,
    ]  # fmt: skip
