"""What an audit found: findings with a witness, checks with their coverage, and a verdict."""

from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Literal

from ngrammix.auditing.witness import Witness

Condition = Literal["C1", "C2", "C3", "C4", "bytes"]
Verdict = Literal["legal", "guilty", "unknown"]

CONDITIONS: dict[Condition, str] = {
    "C1": "causality: a score does not depend on later tokens",
    "C2": "normalisation: the probabilities of all tokens sum to 1",
    "C3": "score before update: the distribution shown before a token is the one charged for",
    "C4": "single pass: each token is scored once, the same in every run",
    "bytes": "the bytes of the tokens are the bytes of the text",
}
EXIT_CODES: dict[Verdict, int] = {"legal": 0, "guilty": 1, "unknown": 2}
CONFIDENCE = 0.99  # with which a leak of the smallest share that is stated would have been found


@dataclass(frozen=True)
class Finding:
    """Proof that a condition does not hold.

    Attributes
    ----------
    condition : str
        ``C1`` to ``C4``, or ``bytes``; see `CONDITIONS`.
    position : int or None
        Index of the token whose score is wrong; None if it is none of one token.
    witness : Witness
        The smallest input that was found to show it, and the two numbers that differ.
    message : str
        Rule, what was found, and where, in one sentence.
    """

    condition: Condition
    position: int | None
    witness: Witness
    message: str


@dataclass(frozen=True)
class Check:
    """One kind of test, and how far it went.

    Attributes
    ----------
    condition : str
        The condition that it tests.
    name : str
        What was changed or compared, as a short clause.
    tried : int
        Positions (or pairs, files, documents: `unit`) that were tested.
    unit : str
        What `tried` counts.
    calls : int
        Calls of the scorer.
    smallest_share : float or None
        Smallest share of leaking positions that would have been found with 99 %; 0 if every
        position was tested; None where no share can be stated.
    note : str
        What limits the check, in one sentence; empty if nothing does.
    is_enough : bool
        Whether the check went far enough for the verdict ``legal``.
    """

    condition: Condition
    name: str
    tried: int
    unit: str = "positions"
    calls: int = 0
    smallest_share: float | None = None
    note: str = ""
    is_enough: bool = True


def smallest_share(tried: int, total: int | None = None) -> float:
    """The smallest share of positions of which one is among `tried` random ones with 99 %.

    0 if all of a `total` were tried; 1 if none was.
    """
    if total is not None and tried >= total:
        return 0.0
    return 1.0 - (1.0 - CONFIDENCE) ** (1.0 / tried) if tried else 1.0


@dataclass(frozen=True)
class AuditReport:
    """The verdict of an audit, its proofs, and what was and was not checked.

    Attributes
    ----------
    subject : str
        Name of what was audited: a scorer, a model, a tokenizer, a log line.
    findings : tuple of Finding
        Empty unless a condition is broken.
    checks : tuple of Check
        In the order in which they ran.
    problems : tuple of str
        Why no verdict can be given: the scorer raised, hung, was too slow. One sentence each.
    remarks : tuple of str
        What a reader should know and what is no proof.
    not_checked : tuple of str
        What the audit does not look at, one sentence each.
    conditions : dict
        What the audit ran on: ``tokens``, ``vocab_size``, ``seed``, ``budget_seconds``, hashes,
        ``versions``, ``hardware``. Values are texts and numbers.
    calls : int
        Calls of the scorer.
    tokens_scored : int
        Tokens that all calls scored together.
    seconds : float
        Wall time.
    """

    subject: str
    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    conditions: dict[str, Any] = field(default_factory=dict)
    calls: int = 0
    tokens_scored: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """``guilty`` with a finding, else ``unknown`` with a problem or too short a check."""
        if self.findings:
            return "guilty"
        is_whole = bool(self.checks) and all(check.is_enough for check in self.checks)
        return "legal" if is_whole and not self.problems else "unknown"

    @property
    def exit_code(self) -> int:
        """0 legal, 1 guilty, 2 unknown."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON takes it; `ngrammix.auditing.report_json.from_dict` reads it back."""
        return {"verdict": self.verdict, "exit_code": self.exit_code, **asdict(self)}

    def __str__(self) -> str:
        # The card knows the report; the report finds it by name, as the faces do.
        return str(import_module("ngrammix.auditing.card").as_text(self))
