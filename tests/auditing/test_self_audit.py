"""The audit of our own mixers, and of several scorers in one report."""

from dataclasses import replace

import numpy as np
import pytest

from eval.auditing import audit_self as self_audit
from eval.auditing.audit_self import CACHE, audit_self
from ngrammix.auditing.merged import merged
from ngrammix.auditing.report import AuditReport, Check, Finding
from ngrammix.auditing.witness import Witness
from ngrammix.experts.choices import CHOICES

WITNESS = Witness("repeat", (1.0, 2.0))


def test_every_choice_of_experts_is_audited_by_scores_and_by_steps():
    report = audit_self(np.arange(40) % 8, 8, n_positions=8, budget_seconds=600, seed=3)
    assert report.findings == report.problems == ()
    assert report.conditions["mixers"] == ", ".join(CHOICES)
    assert (report.conditions["tokens"], report.conditions["seed"]) == (40, 3)
    assert {check.condition for check in report.checks} >= {"C1", "C2", "C3", "C4"}
    shown = [check for check in report.checks if check.condition == "C3"]
    assert [check.note for check in shown] == [f"in each of {len(CHOICES) + 1} audits"]


def test_a_mixer_that_cheats_is_found_and_named(monkeypatch):
    class Late(self_audit.MixerWithModel):
        def score(self, tokens):
            nats = super().score(tokens)
            return np.where(np.roll(tokens, -1) == 3, 0.5 * nats, nats)

    monkeypatch.setattr(self_audit, "MixerWithModel", Late)
    report = audit_self(np.arange(64) % 8, 8, choices=["gate"], n_positions=20, budget_seconds=600)
    assert report.verdict == "guilty"
    assert {finding.message.partition(": ")[0] for finding in report.findings} == {"gate"}


def test_a_wrong_vocabulary_is_refused():
    with pytest.raises(ValueError) as raised:
        audit_self(vocab_size=0)
    assert str(raised.value).startswith("vocab_size must be in 1..2**31, got 0")


def test_one_report_of_several_claims_the_least():
    finding = Finding("C4", 3, WITNESS, "scores must be the same")
    checks = (
        Check("C1", "futures", 100, calls=5, smallest_share=0.1),
        Check("C4", "again after the 1,234 calls of this audit", 9, calls=1, smallest_share=0.0),
    )
    first = AuditReport("a", (), checks, ("slow",), ("odd",), ("x", "y"), {"seed": 0}, 5, 10, 1.0)
    second = replace(
        first, findings=(finding,), problems=("slow",), remarks=("even",), not_checked=("y", "z"),
        checks=(replace(checks[0], tried=40, smallest_share=0.2, is_enough=False),
                replace(checks[1], name="again after the 7 calls of this audit")),
    )  # fmt: skip
    third = replace(first, checks=(), problems=(), remarks=())
    report = merged("all", {"a": first, "b": second, "c": third}, {"seed": 7})
    assert report == AuditReport(
        "all",
        (Finding("C4", 3, WITNESS, "b: scores must be the same"),),
        (Check("C1", "futures", 40, "positions", 10, 0.2, "in 2 of 3 audits", is_enough=False),
         Check("C4", "again after the calls of this audit", 9, "positions", 2, 0.0,
               "in 2 of 3 audits")),
        ("a, b: slow",), ("a: odd", "b: even"), ("x", "y", "z"), {"seed": 7}, 15, 30, 3.0,
    )  # fmt: skip


def test_a_share_that_one_cannot_state_is_none_of_all():
    reports = {
        name: AuditReport(name, checks=(Check("C2", "sums", 5, smallest_share=share),))
        for name, share in (("a", None), ("b", 0.5))
    }
    assert merged("x", reports, {}).checks[0].smallest_share is None
    assert merged("x", {"b": reports["b"]}, {}).checks[0].note == "in each of 1 audits"
    assert CACHE == "cache alone"
