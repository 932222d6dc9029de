"""`audit`: verdicts, contract, coverage, witnesses."""

import os
import time
import warnings
from collections import Counter

import numpy as np
import pytest

import ngrammix
from ngrammix.auditing.replay import replay
from ngrammix.auditing.single_pass import FOLLOWS
from ngrammix.auditing.streams import adversarial

V = 32
# Positions, and not seconds, end these audits: no test depends on how busy the machine is.
QUICK = {
    "tokens": adversarial(V, 200, np.random.default_rng(0)),
    "vocab_size": V,
    "n_positions": 40,
    "budget_seconds": 300.0,
}
WIDE = QUICK | {"tokens": adversarial(V, 1100, np.random.default_rng(1)), "n_positions": 1100}


def unigram(tokens):
    """Laplace's rule, score first."""
    counts, nats = np.ones(V), np.empty(len(tokens))
    for i, token in enumerate(tokens.tolist()):
        nats[i] = -np.log(counts[token] / (V + i))
        counts[token] += 1
    return nats


def learns_first(tokens):
    counts, nats = np.ones(V), np.empty(len(tokens))
    for i, token in enumerate(tokens.tolist()):
        counts[token] += 1
        nats[i] = -np.log(counts[token] / (V + i + 1))
    return nats


def two_passes(tokens):
    counts = np.bincount(tokens, minlength=V) + 1.0
    return -np.log(counts[tokens] / counts.sum())


def sees_the_next_in(period):
    def score_fn(tokens):
        nats = unigram(tokens)
        nats[period - 1 : -1 : period] += 0.01 * (tokens[period::period] % 2)
        return nats

    return score_fn


def learns_one_too_many(period):
    """The table is updated after each chunk, with the first token of the next one."""

    def score_fn(tokens):
        counts, nats, known = np.ones(V), np.empty(len(tokens)), 0
        for i, token in enumerate(tokens.tolist()):
            nats[i] = -np.log(counts[token] / counts.sum())
            if i % period == period - 1:
                np.add.at(counts, tokens[known : i + 2], 1)
                known = i + 1
        return nats

    return score_fn


class Unigram:
    """A stepper."""

    def __init__(self, shown=1.0):
        self.counts, self.shown = np.ones(V), shown

    def probs(self):
        p = self.counts**self.shown
        return p / p.sum()

    def commit(self, token):
        cost = -np.log(self.counts[token] / self.counts.sum())
        self.counts[token] += 1
        return cost


def conditions(report):
    return [found.condition for found in report.findings]


def test_a_legal_scorer_is_legal():
    report = ngrammix.audit(unigram, **QUICK)
    assert (report.verdict, report.exit_code, report.findings, report.problems) == (
        "legal", 0, (), (),
    )  # fmt: skip
    assert {check.condition for check in report.checks} == {"C1", "C2", "C4"}
    assert all(check.is_enough for check in report.checks)


@pytest.mark.parametrize("period", [2, 7, 100, 777, 1024])
def test_a_leak_at_the_ends_of_chunks_is_found(period):
    report = ngrammix.audit(sees_the_next_in(period), **WIDE)
    found = report.findings[0]
    assert conditions(report) == ["C1"]
    before, after = found.witness.numbers
    assert abs(before - after) == pytest.approx(0.01, abs=1e-9)


@pytest.mark.parametrize("period", [16, 512])
def test_a_token_that_is_learned_with_the_chunk_before_is_found(period):
    report = ngrammix.audit(learns_one_too_many(period), **WIDE)
    assert conditions(report) == ["C2"]
    assert report.findings[0].position % period == 0


def test_learning_first_and_two_passes():
    assert conditions(ngrammix.audit(learns_first, **QUICK)) == ["C2"]
    report = ngrammix.audit(two_passes, **QUICK)
    assert conditions(report) == ["C1", "C4", "C2"]
    assert "known before it is scored" in report.findings[1].message


def test_a_token_that_is_free():
    def free(tokens):
        nats = unigram(tokens)
        nats[0] = 0.0
        return nats

    (found,) = ngrammix.audit(free, **QUICK).findings
    assert (found.condition, found.position, found.witness.stream) == ("C2", 0, ())
    assert "every token is free here" in found.message


def test_probability_that_goes_to_no_token():
    (found,) = ngrammix.audit(lambda tokens: unigram(tokens) + 0.01, **QUICK).findings
    assert found.message == (
        "the probabilities of the next token must sum to 1, got 0.99005 for all tokens after 0 "
        "tokens: some of it goes to no token, or the score of a token depends on the token itself"
    )


def test_a_scorer_may_take_no_longer_streams_than_the_one_that_is_given():
    def limited(tokens):
        if len(tokens) > 200:
            raise IndexError("position embeddings end here")
        return unigram(tokens)

    assert ngrammix.audit(limited, **QUICK).verdict == "legal"


def test_bits_for_nats():
    (found,) = ngrammix.audit(lambda tokens: unigram(tokens) / np.log(2), **QUICK).findings
    assert (found.condition, found.position) == ("C2", 0)
    assert "the scores are bits; multiply them by ln 2" in found.message


def test_numbers_that_are_no_costs():
    def below(tokens):
        return np.where(np.arange(len(tokens)) % 50 == 49, -0.5, unigram(tokens))

    def nan(tokens):
        return np.where(np.arange(len(tokens)) % 50 == 49, np.nan, unigram(tokens))

    for score_fn, text in (
        (below, "a score must be a cost in nats, 0 or more, got -0.5: a probability above 1, at "
                "position 49 of 64"),
        (nan, "a score must be a cost in nats, 0 or more, got no number, at position 49 of 64"),
    ):  # fmt: skip
        found = ngrammix.audit(score_fn, **QUICK).findings[0]
        assert (found.condition, found.message) == ("C2", text)


def test_a_scorer_with_a_memory_and_one_with_chance():
    class Keeps:
        def __init__(self):
            self.counts = np.ones(V)

        def __call__(self, tokens):
            nats = -np.log(self.counts[tokens] / self.counts.sum())
            np.add.at(self.counts, tokens, 1)
            return nats

    (found,) = ngrammix.audit(Keeps(), **QUICK).findings
    assert (found.condition, found.witness.kind) == ("C4", "repeat")
    assert "scored again at once: it keeps what it has seen" in found.message
    rng = np.random.default_rng(0)
    report = ngrammix.audit(lambda tokens: unigram(tokens) + rng.random(len(tokens)), **QUICK)
    assert conditions(report) == ["C4"]
    assert report.remarks == (
        "nothing else was checked: the same stream has other scores in other runs",
    )


@pytest.mark.parametrize("one_in", [4, 20])
def test_a_run_that_differs_now_and_then_is_no_knowledge_of_the_future(one_in):
    for seed in range(8):
        rng = np.random.default_rng(seed)

        def score(tokens, rng=rng):
            return unigram(tokens) + 0.3 * (rng.random() < 1 / one_in)

        report = ngrammix.audit(score, **QUICK)
        assert conditions(report) == ["C4"], str(report)


def test_a_difference_that_goes_away_is_no_knowledge_of_the_future():
    """The first two runs of an altered stream are wrong, and all later ones right."""
    stream, times = QUICK["tokens"], Counter()

    def score(tokens):
        times[key := tokens.tobytes()] += 1
        is_altered = np.array_equal(tokens[:10], stream[:10]) and not np.array_equal(
            tokens, stream[: len(tokens)]
        )
        return unigram(tokens) + 0.3 * (is_altered and times[key] <= 2)

    report = ngrammix.audit(score, **QUICK)
    assert conditions(report) == ["C4"], str(report)
    assert report.remarks[-1].startswith("nothing else was checked")


def test_a_small_leak_at_the_last_token_of_each_prefix_is_no_rounding():
    """In float32, a score that falls once the stream goes on: by less than 16 bits round it."""

    def score(tokens):
        nats = unigram(tokens).astype(np.float32)
        nats[:-1] -= 0.01 * np.sin(tokens[:-1] + 1).astype(np.float32) ** 2
        return nats

    report = ngrammix.audit(score, **QUICK)
    assert "C1" in conditions(report), str(report)
    before, after = report.findings[0].witness.numbers
    assert 1e-3 < abs(before - after) < 0.011
    assert replay(report, score)[0].is_shown
    assert not replay(report, lambda tokens: unigram(tokens).astype(np.float32))[0].is_shown


def test_no_verdict_where_the_length_moves_scores_further_than_rounding_often_does():
    """In float32, at all positions and for all tokens, and by another amount for each length."""

    def score(tokens):
        n = len(tokens)
        moves = np.random.default_rng(n).uniform(-0.082, 0.082, (200, V))[np.arange(n), tokens]
        return (unigram(tokens) + moves).astype(np.float32)

    report = ngrammix.audit(score, **QUICK)
    assert (report.verdict, report.findings) == ("unknown", ()), str(report)
    assert FOLLOWS in [check.note for check in report.checks]


def test_a_token_after_which_mass_is_lost_is_found():
    """A sum after each of the ids that often mark a start or an end."""
    rows = np.random.default_rng(0).dirichlet(np.ones(V), V)

    def score(tokens, after):
        before = np.concatenate([[7], tokens[:-1]])
        return 0.1 * (before == after) - np.log(rows[before, tokens])

    for after in (0, 1, 2, 3, V - 1):
        report = ngrammix.audit(lambda tokens, after=after: score(tokens, after), **QUICK)
        assert conditions(report) == ["C2"], str(report)


def test_a_scorer_that_remembers_other_streams():
    seen = []

    def score_fn(tokens):
        known = any(first != tokens[0] for first in seen)
        seen.append(tokens[0])
        return unigram(tokens) - (0.01 if known else 0.0)

    (found,) = ngrammix.audit(score_fn, **QUICK).findings
    assert (found.condition, found.witness.other != ()) == ("C4", True)
    assert "after other streams were scored" in found.message


def test_one_score_too_few():
    (found,) = ngrammix.audit(lambda tokens: unigram(tokens)[1:], **QUICK).findings
    assert (found.condition, found.witness.kind, found.witness.numbers) == (
        "C4", "count", (64.0, 63.0),
    )  # fmt: skip
    assert found.message == (
        "each token must have one score, got 63 scores for 64 tokens; score the first token "
        "too, such as by a uniform distribution"
    )


SHAPE = (
    "score_fn must return one score in nats a token, a row of numbers, got {} of shape () and "
    "dtype {} for 64 tokens; return the costs of all tokens in their order"
)


@pytest.mark.filterwarnings("error")
def test_warnings_of_a_scorer_are_no_errors():
    def warns(tokens):
        warnings.warn("an odd stream", UserWarning, stacklevel=1)
        return unigram(tokens)

    assert ngrammix.audit(warns, **QUICK).verdict == "legal"


def test_one_score_too_many():
    (found,) = ngrammix.audit(lambda tokens: np.append(unigram(tokens), 1.0), **QUICK).findings
    assert found.message == (
        "each token must have one score, got 65 scores for 64 tokens; leave out what is scored "
        "beside the tokens"
    )


def raises(tokens):
    raise KeyError("no such\ntoken")


def leaves(tokens):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("score_fn", "text"),
    [
        (raises, "the scorer raised KeyError: 'no such\\ntoken', for 64 tokens; it must score "
                 "any stream of ids below vocab_size"),
        (leaves, "the scorer raised SystemExit: 3, for 64 tokens; it must score any stream of "
                 "ids below vocab_size"),
        (lambda tokens: 3.0, SHAPE.format("float", "float64")),
        (lambda tokens: "text", SHAPE.format("str", "<U4")),
        (lambda tokens: [[1.0], [2.0, 3.0]], None),
    ],
)  # fmt: skip
def test_what_cannot_be_told(score_fn, text):
    report = ngrammix.audit(score_fn, **QUICK)
    assert (report.verdict, report.exit_code, len(report.problems)) == ("unknown", 2, 1)
    assert text is None or report.problems == (text,)


def test_a_scorer_that_hangs():
    def hangs(tokens):
        if len(tokens) == 64:
            time.sleep(60)
        return unigram(tokens)

    began = time.perf_counter()
    report = ngrammix.audit(hangs, vocab_size=V, budget_seconds=0.5)
    assert time.perf_counter() - began < 20
    assert report.verdict == "unknown"
    assert report.problems[0].startswith("the scorer did not return within the budget of 0.5 s")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_scorer_that_forks_leaves_one_audit(tmp_path):
    calls = []

    def forks(tokens):
        calls.append(len(tokens))
        if len(calls) in (1, 7, 20):
            os.fork()
        return unigram(tokens)

    verdict = ngrammix.audit(
        forks, **QUICK | {"tokens": np.arange(20) % V, "n_positions": 2}
    ).verdict
    (tmp_path / str(os.getpid())).write_text(verdict)
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


def test_probs_fn_and_stepper():
    def shown(power):
        def probs_fn(prefix):
            p = (np.bincount(prefix, minlength=V) + 1.0) ** power
            return p / p.sum()

        return probs_fn

    assert ngrammix.audit(unigram, probs_fn=shown(1.0), **QUICK).verdict == "legal"
    (found,) = ngrammix.audit(unigram, probs_fn=shown(0.9), **QUICK).findings
    assert (found.condition, found.witness.kind) == ("C3", "shown")
    report = ngrammix.audit(unigram, probs_fn=lambda prefix: 2 * shown(1.0)(prefix), **QUICK)
    assert conditions(report) == ["C2"]
    assert ngrammix.audit(None, stepper=Unigram, **QUICK).verdict == "legal"
    assert conditions(ngrammix.audit(None, stepper=lambda: Unigram(0.9), **QUICK)) == ["C3"]


def test_a_score_that_improves_as_the_table_shrinks():
    def hashed(tokens, table_size=2**18):
        counts, nats = np.zeros(table_size), np.empty(len(tokens))
        for i, token in enumerate(tokens.tolist()):
            slot = token * 2654435761 % table_size
            nats[i] = -np.log((counts[slot] + 1) / (i + V))
            counts[slot] += 1
        return nats

    report = ngrammix.audit(hashed, **QUICK | {"tokens": np.arange(500) % V})
    assert "legal" in report.verdict  # 64 slots hold 32 tokens

    def collides(tokens, table_size=2**18):
        return hashed(tokens % max(2, V * table_size // 2**18), table_size)

    report = ngrammix.audit(collides, **QUICK | {"tokens": np.arange(500) % V})
    assert [found.witness.kind for found in report.findings] == ["table"]
    assert "colliding counts pass for evidence" in report.findings[0].message


def test_a_slow_scorer_is_audited_on_the_first_tokens():
    def slow(tokens):
        time.sleep(1e-4 * len(tokens))
        return unigram(tokens)

    report = ngrammix.audit(slow, vocab_size=V, budget_seconds=3.0)
    assert 256 <= report.conditions["tokens_audited"] < 4096
    assert "tokens were audited: a call on all of them would take about 0." in report.remarks[0]


def test_calls_are_counted_by_the_check_that_makes_them():
    calls = []

    def counted(tokens):
        calls.append(len(tokens))
        return unigram(tokens)

    report = ngrammix.audit(counted, **QUICK)
    assert (report.calls, report.tokens_scored) == (len(calls), sum(calls))
    assert all(check.calls > 0 for check in report.checks)
    assert 0.9 * len(calls) < sum(check.calls for check in report.checks) <= len(calls)


def test_the_first_call_counts():
    calls = []

    def cold(tokens):
        calls.append(len(tokens))
        return unigram(tokens) + (0.01 if len(calls) == 1 else 0.0)

    (found,) = ngrammix.audit(cold, **QUICK).findings
    assert (found.condition, found.witness.kind) == ("C4", "repeat")


def test_the_same_seed_finds_the_same():
    first, second = (ngrammix.audit(two_passes, seed=5, **QUICK).findings for _ in range(2))
    assert first == second


def test_a_witness_is_short_and_shows_again():
    report = ngrammix.audit(sees_the_next_in(64), **QUICK)
    assert len(report.findings[0].witness.stream) <= 128
    (again,) = replay(report, sees_the_next_in(64))
    assert (again.is_shown, again.numbers) == (True, report.findings[0].witness.numbers)
    (mended,) = replay(report, unigram)
    assert mended.is_shown is False


@pytest.mark.parametrize(
    "score_fn",
    [two_passes, learns_first, lambda tokens: unigram(tokens)[1:], lambda tokens: -unigram(tokens)],
)
def test_every_kind_of_witness_shows_again(score_fn):
    report = ngrammix.audit(score_fn, **QUICK)
    assert report.findings
    assert all(again.is_shown for again in replay(report, score_fn))
    assert not any(again.is_shown for again in replay(report, unigram))


def test_streams_of_one_token_and_vocabularies_of_one():
    assert ngrammix.audit(unigram, **QUICK | {"tokens": [3]}).verdict == "legal"
    zeros = ngrammix.audit(
        lambda tokens: np.zeros(len(tokens)), **QUICK | {"tokens": [0, 0, 0], "vocab_size": 1}
    )
    assert zeros.findings == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"tokens": [1, V]}, "token"),
        ({"tokens": []}, "tokens must be 1 to 16777216 ids, got 0; leave them out for a stream "
                         "that is made for the audit"),
        ({"vocab_size": None}, "vocab_size must be an integer >= 1, got None; pass an int"),
        ({"score_fn": 3}, "score_fn must be a function, got int; pass it without calling it"),
        ({"score_fn": None}, "score_fn must be a function, got None; pass it, or a stepper"),
        ({"probs_fn": [1]}, "probs_fn must be a function, got list; pass it without calling it"),
        ({"budget_seconds": 0}, "budget_seconds must be a number > 0, got 0; leave it out for 50"),
        ({"n_positions": 0}, "n_positions must be an integer in 1..16777216, got 0; leave it out "
                             "for the default"),
        ({"edges": [9000]}, "an edge must be an integer in 0..4095, got 9000; leave it out for the "
                            "default"),
    ],
)  # fmt: skip
def test_arguments_are_checked_first(arguments, text):
    with pytest.raises(ValueError) as raised:
        ngrammix.audit(**{"score_fn": unigram, "vocab_size": V} | arguments)
    assert text in str(raised.value)
