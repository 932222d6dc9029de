"""No honest scorer is accused."""

import pytest

from tests.auditing.honest import HONEST
from tests.auditing.sweep import FIRST, SEEDS, audited, many, some


def check(name, seed, **options):
    if "torch" in name or "float" in name:
        pytest.importorskip("torch")
    report = audited(HONEST[name], seed, **options)
    assert report.verdict != "guilty", str(report)


@pytest.mark.parametrize("name", some(HONEST, 5))
def test_an_honest_scorer_is_not_accused(name):
    check(name, FIRST, budget_seconds=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", many(HONEST, 4))
def test_no_honest_scorer_is_accused(name):
    for seed in SEEDS:
        check(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", some(HONEST, 60))
def test_no_honest_scorer_is_accused_in_a_large_vocabulary(name):
    for seed in SEEDS:
        check(name, seed, n_tokens=4096, vocab_size=1024, budget_seconds=50.0)
