"""assert_legal: one line in anyone's tests, under pytest, unittest and python -O."""

import subprocess
import sys
import unittest
from pathlib import Path

import numpy as np
import pytest

import ngrammix
from ngrammix import assert_legal
from ngrammix.auditing.report import AuditReport, Check

ROOT = Path(__file__).resolve().parents[2]
V = 8


def uniform(tokens):
    return np.full(len(tokens), np.log(V))


def free_repeats(tokens):
    """A token that stands where it stood before costs nothing: the rest keeps its probability."""
    return np.where(tokens == np.roll(tokens, 1), 0.0, np.log(V))


def raises(tokens):
    raise KeyError("no such document")


def test_a_legal_scorer_passes_and_the_report_comes_back():
    report = assert_legal(uniform, np.arange(200) % V, V, budget_seconds=2, seed=3)
    assert isinstance(report, AuditReport)
    assert (report.verdict, report.conditions["seed"]) == ("legal", 3)
    assert report.conditions["hardware"]
    assert "numpy" in report.conditions["versions"]


def test_a_guilty_one_fails_with_the_text_of_the_report():
    with pytest.raises(AssertionError) as failed:
        assert_legal(free_repeats, vocab_size=V, budget_seconds=2)
    text = str(failed.value)
    assert text.startswith("GUILTY  ")
    assert "broken: " in text
    assert "conditions" in text


def test_one_that_cannot_be_judged_fails_too_unless_that_is_allowed():
    with pytest.raises(AssertionError) as failed:
        assert_legal(raises, vocab_size=V, budget_seconds=2)
    assert str(failed.value).startswith("UNKNOWN  ")
    assert "KeyError" in str(failed.value)
    report = assert_legal(raises, vocab_size=V, budget_seconds=2, allow_unknown=True)
    assert report.verdict == "unknown"


def test_a_guilty_one_fails_even_where_unknown_is_allowed():
    with pytest.raises(AssertionError):
        assert_legal(free_repeats, vocab_size=V, budget_seconds=2, allow_unknown=True)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow_unknown": 1}, "allow_unknown must be True or False, got 1; leave it out"),
        ({"vocab_size": 0}, "vocab_size must be in 1..2**31, got 0; it is the width of the logits"),
    ],
)
def test_a_wrong_argument_is_no_failure_of_the_scorer(options, error):
    with pytest.raises(ValueError) as raised:
        assert_legal(uniform, **{"vocab_size": V, **options})
    assert str(raised.value) == error


def test_every_option_of_audit_is_passed_on(monkeypatch):
    given = []
    legal = AuditReport("x", checks=(Check("C1", "y", 1),))
    monkeypatch.setattr(
        "ngrammix.auditing.assert_legal.audit", lambda *a, **o: given.append((a, o)) or legal
    )
    options = {"seed": 1, "probs_fn": uniform, "n_positions": 5, "edges": (1,)}
    assert ngrammix.assert_legal(uniform, [1, 2], V, **options) is legal
    assert given == [((uniform, [1, 2], V), options)]


class TestUnderUnittest(unittest.TestCase):
    def test_it_is_a_failure_and_no_error(self):
        with self.assertRaises(self.failureException):  # noqa: PT027
            assert_legal(free_repeats, vocab_size=V, budget_seconds=2)


TESTS = """
import numpy as np
from ngrammix import assert_legal

def score(tokens):
    return np.where(np.roll(tokens, -1) == 3, 0.1, np.log(8))

def test_score():
    assert_legal(score, vocab_size=8, budget_seconds=2)
"""


@pytest.mark.parametrize("flags", [[], ["-O"]])
def test_a_users_test_shows_its_own_line_and_the_report(tmp_path, flags):
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    command = [
        sys.executable,
        *flags,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_mine.py",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "test_mine.py:9: AssertionError" in done.stdout
    assert "broken: C1, causality" in done.stdout
    assert "raise AssertionError" not in done.stdout  # our own lines are hidden
