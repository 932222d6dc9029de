"""Each planted scorer is found guilty, and of what it does."""

import pytest

from tests.auditing.planted import PLANTED
from tests.auditing.planted_causality import chunk_known_whole, chunk_known_without_self
from tests.auditing.registry import Planted, from_formula
from tests.auditing.sweep import FIRST, SEEDS, audited, many, some


def check(planted, seed, **options):
    report = audited(planted, seed, n_tokens=options.pop("n_tokens", planted.n_tokens), **options)
    named = {finding.condition for finding in report.findings}
    assert report.verdict == "guilty", str(report)
    assert named & planted.main, str(report)
    assert named <= planted.conditions, str(report)


@pytest.mark.parametrize("name", some(PLANTED, 8))
def test_a_planted_fault_is_found_and_named(name):
    check(PLANTED[name], FIRST)


@pytest.mark.slow
@pytest.mark.parametrize("name", many(PLANTED, 4))
def test_every_planted_fault_is_found_and_named(name):
    for seed in SEEDS:
        check(PLANTED[name], seed, budget_seconds=12.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(PLANTED, 60))
def test_a_planted_fault_is_found_in_a_large_vocabulary(name):
    for seed in SEEDS:
        check(PLANTED[name], seed, n_tokens=4096, vocab_size=1024, budget_seconds=50.0)


@pytest.mark.parametrize("knows_itself", [True, False])
def test_a_chunk_of_any_period_is_found(knows_itself):
    """One period in 128 of 2 to 1,024; NGRAMMIX_SEED from 0 to 127 takes all."""
    formula = chunk_known_whole if knows_itself else chunk_known_without_self
    for period in range(2 + FIRST % 128, 1025, 128):

        def make(seed, vocab_size, period=period):
            return from_formula(
                lambda lm, tokens: formula(lm, tokens, period=period), seed, vocab_size
            )

        conditions = frozenset({"C1", "C2", "C3", "C4"})
        check(Planted(make, frozenset({"C1"}), conditions, 2 * period + 64), FIRST)
