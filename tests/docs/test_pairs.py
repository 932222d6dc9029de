"""Each pair of docs/guides/legal-scores.md: the violation is guilty, the correct form is legal."""

import re

import pytest

from tests.docs.pages import blocks_of
from tests.docs.pairs import PAGE, audited, read_scorers, said

SCORERS = read_scorers()
TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)


def of_kind(*, is_correct):
    chosen = [s for s in SCORERS if s.is_correct is is_correct]
    return pytest.mark.parametrize("scorer", chosen, ids=lambda scorer: scorer.name)


def words(message):
    """The message without its numbers and line breaks; a sum may be of all tokens or of some."""
    words = " ".join(re.sub(r"-?\d[\d.,]*(e[-+]\d+)?", "#", message).split())
    return words.replace("for # of the # tokens", "for all tokens")


@of_kind(is_correct=False)
def test_a_violation_is_guilty_with_the_message_that_the_page_shows(scorer):
    report = audited(scorer)
    assert report.verdict == "guilty"
    assert scorer.condition in {finding.condition for finding in report.findings}
    shown, is_said = words(scorer.message.code), words(said(report, scorer.condition))
    assert shown == is_said, "python -m tests.docs.pairs writes the messages anew"


@of_kind(is_correct=True)
def test_the_correct_form_is_legal(scorer):
    report = audited(scorer)
    assert (report.verdict, report.findings, report.problems) == ("legal", (), ())


@pytest.mark.parametrize("condition", ["C1", "C2", "C3", "C4"])
def test_each_condition_has_three_pairs_of_its_own_at_least(condition):
    (section,) = [text for text in SECTIONS if text.startswith(f"{condition}: ")]
    pairs = section.split("\n### ")[1:]
    for pair in pairs:
        assert re.findall(r"^# (\w+)$", pair, re.MULTILINE) == ["violation", "correct"]
        assert "\n*In a diff:* " in pair
    assert sum(f"```text\n{condition}  " in pair for pair in pairs) >= 3


def test_scorers_are_short():
    for block in blocks_of(PAGE):
        if re.match("# (violation|correct)\n", block.code):
            assert block.code.count("\n") <= 17
            assert max(map(len, block.code.splitlines())) <= 100
