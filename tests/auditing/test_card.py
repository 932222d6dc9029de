"""The report of an audit as text, Markdown and JSON: what it says, and that no text breaks it."""

import json
import math
import re
from contextlib import suppress
from dataclasses import asdict, replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrammix.auditing import report_json
from ngrammix.auditing.card import MAX_FINDINGS, WIDTH, as_markdown, as_text
from ngrammix.auditing.report import AuditReport, Check, Finding, smallest_share
from ngrammix.auditing.report_json import from_dict, from_json, to_json
from ngrammix.auditing.witness import Kind, Witness
from ngrammix.auditing.wording import LABELS, coverage, figure, percent, shown, two_figures

ATTACK = "\x1b[2J\u202egnp\n# x | y <img src=x> [a](http://b.c) @all `x` www.d.e"
STREAM = tuple(range(50))
FUTURE = Witness("future", (1.23456789, 1.2345679), "nats", STREAM, (*STREAM[:-1], 7), 33)
GUILTY = Finding("C1", 33, FUTURE, "a score must not depend on later tokens, got another at 33")
CHECKS = (
    Check("C1", "later tokens are changed", 512, calls=1024, smallest_share=smallest_share(512)),
    Check("C2", "sums", 40, calls=41_000, smallest_share=0.0),
    Check("C4", "the same stream twice", 3, "streams", 6, note="the scorer is slow"),
)
LEGAL = AuditReport(
    "solution:score", checks=CHECKS, not_checked=("the table size: the scorer takes none",),
    remarks=("scores are float32",), calls=42_030, tokens_scored=5_400_000, seconds=31.23,
    conditions={"tokens": 4096, "seed": 0, "budget_seconds": 50.0, "versions": "numpy 2.4.6"},
)  # fmt: skip

numbers = st.floats() | st.integers(-(2**40), 2**40).map(float)
tokens = st.lists(st.integers(0, 2**31), max_size=40).map(tuple)
witnesses = st.builds(
    Witness, st.sampled_from(get_args(Kind)), st.tuples(numbers, numbers), st.text(), tokens,
    tokens, st.none() | st.integers(0, 2**40), tokens, st.text(),
)  # fmt: skip
findings = st.builds(
    Finding, st.sampled_from(("C1", "C2", "C3", "C4", "bytes")),
    st.none() | st.integers(0, 2**40), witnesses, st.text(),
)  # fmt: skip
checks = st.builds(
    Check, st.sampled_from(("C1", "C2", "bytes")), st.text(), st.integers(0, 10**9), st.text(),
    st.integers(0, 10**9), st.none() | st.floats(0, 1), st.text(), st.booleans(),
)  # fmt: skip
texts = st.lists(st.text(), max_size=3).map(tuple)
reports = st.builds(
    AuditReport, st.text(), st.lists(findings, max_size=3).map(tuple),
    st.lists(checks, max_size=3).map(tuple), texts, texts, texts,
    st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.booleans(), max_size=4),
    st.integers(0, 10**9), st.integers(0, 10**12), st.floats(0, 1e6),
)  # fmt: skip


def same(first, second):
    """Whether two reports are equal; NaN equals NaN."""
    return repr(first) == repr(second)


@settings(max_examples=25)  # a report takes long to draw
@given(reports)
def test_json_gives_every_report_back(report):
    text = to_json(report)
    json.loads(text, parse_constant=pytest.fail)  # no NaN, which is none of JSON
    assert same(from_json(text), report)
    assert same(from_dict(report.to_dict()), report)
    assert same(from_json(text.encode()), report)


HALVES = st.text("\ud83d\ude00a", max_size=5)  # two of them side by side are one character


@given(HALVES, HALVES, st.dictionaries(HALVES, HALVES | st.lists(HALVES), max_size=3))
def test_halves_of_a_pair_are_read_as_json_reads_them(subject, text, conditions):
    witness = replace(FUTURE, text=text)
    report = AuditReport(subject, (replace(GUILTY, witness=witness),), conditions=conditions)
    stored = to_json(report)
    for again in (from_json(stored), from_dict(report.to_dict()), from_dict(json.loads(stored))):
        assert to_json(again) == stored
        assert from_json(to_json(again)) == again
        assert again.subject == json.loads(json.dumps(subject))
        assert again.findings[0].witness.text == json.loads(json.dumps(text))


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_a_report_in_bytes_is_of_whole_characters(form):
    stored = to_json(LEGAL)
    assert from_json(stored.encode(form)) == LEGAL
    for half in ("\ud83d", "\udc80", "\\ud83d\ude00"):
        text = stored.replace("solution", half)
        with pytest.raises(ValueError) as raised:
            from_json(text.encode(form, "surrogatepass"))
        assert str(raised.value).startswith(f"a report must be JSON, got: '{form[:5]}")
        assert str(raised.value).endswith(MEND)


@settings(max_examples=25)  # a report takes long to draw
@given(reports)
def test_text_and_markdown_take_every_report(report):
    text, card = as_text(report), as_markdown(report)
    assert str(report) == text
    assert text.startswith(f"{report.verdict.upper()}  ")
    assert card.startswith(f"**{report.verdict}**: ")
    for each in (text, card):
        assert each.replace("\n", "").isprintable() or not re.search(
            "[\x00-\x09\x0b-\x1f\x7f]", each
        )
    words = max((len(word) for word in text.split()), default=0)
    assert max(map(len, text.splitlines())) <= max(WIDTH, words + 12)


def test_the_text_says_verdict_proof_coverage_and_conditions():
    assert (
        as_text(LEGAL)
        == """\
LEGAL  solution:score
  no violation was found by any of the checks below

checked
  C1  later tokens are changed: 512 positions, 1,024 calls; a leak at 0.90 % of the positions or
    more would have been found with 99 %
  C2  sums: 40 positions, 41,000 calls; every position
  C4  the same stream twice: 3 streams, 6 calls; the scorer is slow

not checked
  the table size: the scorer takes none

remarks
  scores are float32

conditions
  tokens: 4096
  seed: 0
  budget seconds: 50
  versions: numpy 2.4.6
  took: 31.2 seconds, 42,030 calls of the scorer, 5,400,000 tokens scored
"""
    )
    text = as_text(replace(LEGAL, findings=(GUILTY,)))
    assert text.startswith("""\
GUILTY  solution:score
  broken: C1, causality: a score does not depend on later tokens

C1 at position 33
  a score must not depend on later tokens, got another at 33
    stream: 0 1 2 3 4 5 ... 44 45 46 47 48 49 (50 tokens)
    with another future: 0 1 2 3 4 5 ... 44 45 46 47 48 7 (50 tokens)
    first difference: index 49, 49 and 7
    nats at position 33: first 1.23456789, with another future 1.2345679
""")
    unknown = replace(LEGAL, problems=("the scorer hung: no answer within 5 seconds",))
    assert as_text(unknown).startswith("""\
UNKNOWN  solution:score
  no violation was found, but the audit could not tell

why no verdict can be given
  the scorer hung: no answer within 5 seconds
""")
    assert "\nwhat stopped the audit\n" in as_text(replace(unknown, findings=(GUILTY,)))
    short = replace(LEGAL, checks=(replace(CHECKS[0], is_enough=False),))
    assert "could not tell: too little was tried\n" in as_text(short)
    assert "too little for a" in as_text(short)


def test_the_card_has_the_same_and_a_table_of_checks():
    card = as_markdown(replace(LEGAL, findings=(GUILTY,)))
    assert card.startswith("""\
**guilty**: solution:score

broken: C1, causality: a score does not depend on later tokens

**C1 at position 33**

a score must not depend on later tokens, got another at 33

- stream: 0 1 2 3 4 5 ... 44 45 46 47 48 49 (50 tokens)
- with another future: 0 1 2 3 4 5 ... 44 45 46 47 48 7 (50 tokens)
""")
    assert "| C2 | sums | 40 positions | 41,000 | every position |\n" in card
    assert "not checked:\n\n- the table size: the scorer takes none\n" in card
    assert "- took: 31.2 seconds, 42,030 calls of the scorer, 5,400,000 tokens scored\n" in card


def test_no_text_becomes_a_control_character_a_tag_a_link_or_a_mention():
    finding = replace(GUILTY, message=ATTACK, witness=replace(FUTURE, text=ATTACK))
    report = AuditReport(
        ATTACK, (finding,), (Check("C1", ATTACK, 1, ATTACK, note=ATTACK),), (ATTACK,), (ATTACK,),
        (ATTACK,), {ATTACK: ATTACK},
    )  # fmt: skip
    text, card = as_text(report), as_markdown(report)
    for each in (text, card):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", each)
        assert r"\u202egnp" in each.replace("\\\\", "\\")
    assert not re.search(r"<|@|://|www\.|(?<!\\)[\[\]`]", card)
    rows = [line for line in card.splitlines() if line.startswith("| C1")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 6  # the borders of five cells


def test_of_many_findings_the_first_are_shown_and_all_are_stored():
    many = replace(LEGAL, findings=(GUILTY,) * (MAX_FINDINGS + 190))
    for show in (as_text, as_markdown):
        assert show(many).count("another at 33") == MAX_FINDINGS
        assert "\nand 190 more: see the report in JSON\n" in show(many)
    assert from_json(to_json(many)) == many


@pytest.mark.parametrize(
    ("share", "unit", "words"),
    [
        (None, "positions", ""),
        (0.0, "positions", "every position"),
        (0.0, "documents", "all documents"),
        (1.0, "pairs", "none of the pairs"),
        (0.0046, "pairs", "a leak at 0.46 % of the pairs or more would have been found with 99 %"),
    ],
)
def test_coverage_in_words(share, unit, words):
    assert coverage(share, unit) == words


@given(st.integers(1, 10**7))
def test_a_share_is_never_rounded_down(tried):
    share = smallest_share(tried)
    said = float(percent(share).removesuffix(" %")) / 100
    assert share * (1 - 1e-9) <= said <= share * 1.1


@given(numbers, numbers)
def test_two_numbers_that_differ_are_seen_to(first, second):
    texts = two_figures(first, second)
    assert (texts[0] == texts[1]) == (repr(first + 0.0) == repr(second + 0.0))


def test_figures_and_streams_are_short():
    assert [figure(value) for value in (3.0, 1e20, 0.1 + 0.2, math.nan, -math.inf)] == [
        "3", "1e+20", "0.3", "nan", "-inf",
    ]  # fmt: skip
    assert shown(range(13)) == "0 1 2 3 4 5 6 7 8 9 10 11 12"
    assert shown(range(1000)) == "0 1 2 3 4 5 ... 994 995 996 997 998 999 (1,000 tokens)"
    assert set(LABELS) == set(get_args(Kind))
    longer = replace(GUILTY, witness=replace(FUTURE, other=STREAM[:-1]))
    assert "first difference: one ends at index 49" in as_text(AuditReport("x", (longer,)))


def test_a_long_text_is_cut():
    report = AuditReport("x", problems=("y" * 5000,), conditions={"z": "z" * 5000})
    assert f"{'y' * 600}... (5,000 characters)" in as_markdown(report)
    assert f"{'z' * 597}... (5,003 characters)" in as_markdown(report)


def test_a_stream_is_one_line_of_json():
    text = to_json(replace(LEGAL, subject="[\n  1,\n  2\n]", findings=(GUILTY,)))
    assert f'"stream": [{", ".join(map(str, STREAM))}],\n' in text
    assert json.loads(text)["subject"] == "[\n  1,\n  2\n]"


def test_numbers_of_numpy_are_stored_as_numbers():
    numpy = pytest.importorskip("numpy")
    witness = replace(
        FUTURE, numbers=(numpy.float64(1.5), numpy.float32(2)), position=numpy.int64(3)
    )
    stored = json.loads(to_json(replace(LEGAL, findings=(replace(GUILTY, witness=witness),))))
    assert stored["findings"][0]["witness"]["numbers"] == [1.5, 2.0]
    assert stored["findings"][0]["witness"]["position"] == 3


MEND = "; pass a report as `audit` wrote it"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"subject": 3}, "the report.subject must be a text, got 3"),
        ({"calls": -1}, "the report.calls must be an integer >= 0, got -1"),
        ({"calls": True}, "the report.calls must be an integer >= 0, got True"),
        ({"calls": 2**62}, f"the report.calls must be an integer >= 0, got {2**62}"),
        ({"seconds": "fast"}, "the report.seconds must be a number, got 'fast'"),
        ({"seconds": 10**400}, "the report.seconds must be a number, got 1000"),
        ({"findings": {}}, "the report.findings must be a list, got {}"),
        ({"findings": [3]}, "the report.findings[0] must be an object, got 3"),
        ({"findings": [{}]}, "the report.findings[0] must be an object with condition, got 'none'"),
        ({"checks": [{"name": "x"}]}, "the report.checks[0] must be an object with condition"),
        ({"checks": [CHECKS[0].__dict__ | {"smallest_share": "NaN"}]},
         "the report.checks[0].smallest_share must be in [0, 1], got nan"),
        ({"checks": [CHECKS[0].__dict__ | {"smallest_share": -0.5}]},
         "the report.checks[0].smallest_share must be in [0, 1], got -0.5"),
        ({"problems": [1]}, "the report.problems[0] must be a text, got 1"),
        ({"conditions": []}, "the report.conditions must be an object of depth <= 4, got []"),
        ({"conditions": {"a": [[[[[]]]]]}}, "the report.conditions must be an object of depth "),
        ({"colour": 1}, "the report must be an object of subject, findings, checks, problems"),
        ({"verdict": "guilty"}, "the verdict of a report must follow from its findings and checks, "
         "got 'guilty' where it is 'legal'"),
        ({"exit_code": 1}, "the exit_code of a report must follow from its findings and checks, "
         "got 1 where it is 0"),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(change, error):
    with pytest.raises(ValueError) as raised:
        from_dict(LEGAL.to_dict() | change)
    assert str(raised.value).startswith(error)
    assert str(raised.value).endswith(MEND)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"kind": "guess"}, "witness.kind must be one of future, sum, range, bets, table, shown, "),
        ({"kind": []}, "witness.kind must be one of future, "),
        ({"numbers": [1]}, "witness.numbers must be a list of 2, got [1]"),
        ({"numbers": [1, None]}, "witness.numbers[1] must be a number, got None"),
        ({"stream": [0, 1.5]}, "witness.stream[1] must be an integer >= 0, got 1.5"),
        ({"stream": "12"}, "witness.stream must be a list, got '12'"),
        ({"position": "3"}, "witness.position must be an integer >= 0, got '3'"),
        ({"text": "\x1b" * 3, "unit": ["\x1b"]}, r"witness.unit must be a text, got ['\x1b']"),
    ],
)
def test_what_is_no_witness_is_refused(change, error):
    values = json.loads(to_json(replace(LEGAL, findings=(GUILTY,))))
    values["findings"][0]["witness"] |= change
    with pytest.raises(ValueError) as raised:
        from_dict(values)
    assert str(raised.value).startswith(f"the report.findings[0].{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "a report must be JSON, got: Expecting value: line 1 column 1 (char 0)" + MEND),
        (b"\xff\xfe\x00", "a report must be JSON, got: "),
        ('{"subject": "x", "subject": "y"}', "a report must be JSON, got: a name comes twice in "),
        ("[" * 200_000, "a report must be JSON, got: "),
        ('{"subject": "x", "calls": ' + "9" * 9000 + "}", "a report must be JSON, got: Exceeds "),
        ("[]", "the report must be an object, got []" + MEND),
        ("null", "the report must be an object, got None" + MEND),
        ("{}", "the report must be an object with subject, got 'none'" + MEND),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(text, error):
    with pytest.raises(ValueError) as raised:
        from_json(text)
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)


def test_a_report_that_is_too_long_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(report_json, "MAX_CHARACTERS", 10)
    with pytest.raises(ValueError) as raised:
        from_json(to_json(LEGAL))
    assert str(raised.value) == (
        f"a report must have at most 10 characters, got {len(to_json(LEGAL)):,}" + MEND
    )


@given(st.recursive(st.none() | st.booleans() | numbers | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_no_value_of_json_is_more_than_a_report_or_an_error(value):
    keys = list(asdict(LEGAL))
    for candidate in (value, {"subject": "x", keys[len(repr(value)) % len(keys)]: value}):
        with suppress(ValueError):
            assert isinstance(from_dict(candidate), AuditReport)


def test_what_is_left_out_has_its_default():
    assert from_json('{"subject": "x"}') == AuditReport("x")
