"""Trial: one round trip of a subject, and what it shows, step by step."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np

from eval.auditing.codec import coded_file
from eval.auditing.codec.code_size import MARGIN, find_excess, size_of
from eval.auditing.codec.coded_file import CodedFile, digest_of, hash_of
from eval.auditing.codec.differences import chance, finding_of, look_ahead
from eval.auditing.codec.range_coder import PRECISION
from eval.auditing.codec.round_trip import Encoded, ScorerError, decode, encode
from eval.auditing.codec.subject import Subject
from eval.auditing.codec.token_stream import TokenStream
from eval.types import Floats, Tokens
from ngrammix.auditing.report import AuditReport, Check, Condition, Finding, smallest_share
from ngrammix.auditing.scorer import GRACE, StoppedError, described, one_process, run_within

SHARE = 0.45  # of the budget, for encoding; to decode takes as long
ENOUGH = 128  # tokens: of fewer a code says little, as its end alone may have 64 bits
REPEATS = 4  # encodings that must agree before a decoder that differs is taken for a look ahead
PATIENCE = 0.5  # of the budget, for one more call, before the scorer counts as hung
HELD = (
    "What the scorer holds from the start, such as weights and files: a text in them is not found."
)
AT_ONCE = "What the scorer charges in calls with many tokens: they are coded one by one."


@dataclass(eq=False)
class Trial:
    """A round trip of the tokens of a stream.

    Attributes
    ----------
    subject : Subject
        What codes them.
    stream : TokenStream
        The tokens.
    budget_seconds : float
        Wall time for all steps.
    claimed_nats : (N,) float64 or None
        What the scorer charges in a run of its own.
    """

    subject: Subject
    stream: TokenStream
    budget_seconds: float
    claimed_nats: Floats | None = None
    encoded: Encoded | None = None
    n_decoded: int = 0
    n_at_once: int = 0
    n_calls: int = 0
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._started = monotonic()

    def run(self, keep: str | os.PathLike[str] | None) -> AuditReport:
        """Encode, write the file, decode, measure."""
        self.encode()
        if self.encoded is not None:
            if keep is not None:
                self.keep(self.encoded, keep)
            self.decode(self.encoded)
            self.measure(self.encoded)
        return self.report()

    def encode(self) -> None:
        """Code the tokens; a scorer that shows no distribution is found here."""
        started = monotonic()
        try:
            encoded = self._within(SHARE, lambda: self._encode(len(self.stream.tokens), SHARE))
        except ScorerError as error:
            self.findings.append(finding_of(error, self.stream.tokens))
        except StoppedError as error:
            self.problems.append(f"While the tokens were coded, {error}.")
        else:
            if len(encoded):
                rate = len(encoded) / max(monotonic() - started, 1e-9)
                self.conditions["tokens_a_second"] = round(rate)
                self.encoded = encoded
                return
            self.problems.append(
                f"The budget of {self.budget_seconds:g} s ended before a token was coded."
            )

    def _within(self, until: float, function: Callable[[], Any]) -> Any:
        """What a function that calls the scorer returns, by this share of the budget.

        A `ScorerError` comes through. A scorer that raises, or does not come back from a call, is a
        `StoppedError`.
        """

        def guarded() -> tuple[Any]:
            try:
                with one_process():
                    return (function(),)
            except (ScorerError, StoppedError):
                raise
            except BaseException as error:  # whatever a scorer raises
                raise StoppedError(f"the scorer raised {described(error)}") from error

        left = self._started + until * self.budget_seconds - monotonic()
        answer = run_within(max(0.0, left) + GRACE + PATIENCE * self.budget_seconds, guarded)
        if answer is None:
            raise StoppedError(f"the scorer did not return in {left + GRACE:.0f} s and more")
        return answer[0]

    def _encode(self, n_tokens: int, until: float) -> Encoded:
        """Code the first tokens by a new scorer, until this share of the budget is spent."""
        tokens = self.stream.tokens
        scorer = self.subject.make(self.stream.layout, tokens.copy())
        deadline = self._started + until * self.budget_seconds
        encoded = encode(scorer, tokens[:n_tokens], deadline=deadline)
        self.n_calls += len(encoded)
        return encoded

    def keep(self, encoded: Encoded, path: str | os.PathLike[str]) -> None:
        """Write the file."""
        file = CodedFile(
            n_tokens=len(encoded),
            vocab_size=encoded.vocab_size,
            layout=self.stream.layout,
            settings=hash_of(self.subject.settings),
            surroundings=hash_of(self.subject.surroundings),
            digest=digest_of(self.stream.tokens[: len(encoded)]),
            code=encoded.code,
        )
        size = coded_file.write(path, file)
        self.conditions |= {"file": os.fspath(path), "file_bytes": size}

    def decode(self, encoded: Encoded) -> None:
        """Decode with a new scorer, which knows the decoded tokens alone; judge a difference."""
        known = np.zeros(len(encoded), np.int64)
        try:
            p = self._within(2 * SHARE, lambda: self._find_mismatch(encoded, known))
            if p is not None:
                self._judge_mismatch(encoded, known, p)
        except (ScorerError, StoppedError) as error:
            self.problems.append(f"While the tokens were decoded, {error}.")

    def _find_mismatch(self, encoded: Encoded, known: Tokens) -> float | None:
        """What the decoder gave the first token that it decoded otherwise; None if all agree.

        The tokens before it are written to `known` (N,) and counted in `n_decoded`.
        """
        tokens, deadline = self.stream.tokens, self._started + 2 * SHARE * self.budget_seconds
        scorer = self.subject.make(self.stream.layout, known)
        try:
            for i, decoded in enumerate(decode(scorer, encoded.code, len(encoded))):
                token = decoded.token
                if token is None or token != tokens[i] or decoded.checksum != encoded.checksums[i]:
                    return float(decoded.probabilities[tokens[i]])
                known[i], self.n_decoded = token, i + 1
                if monotonic() > deadline:
                    break
        except ScorerError as error:
            return error.numbers[1]
        return None

    def _judge_mismatch(self, encoded: Encoded, known: Tokens, p: float) -> None:
        """Tell chance from a look ahead: the decoder showed p for the token after `n_decoded`."""
        i, tokens = self.n_decoded, self.stream.tokens
        for _ in range(REPEATS):
            again = self._within(1 + SHARE, lambda: self._encode(i + 1, 1 + SHARE))
            other = np.flatnonzero(again.checksums != encoded.checksums[: len(again)])
            if len(other):
                found = chance(encoded, again, tokens, int(other[0]))
                if isinstance(found, Finding):
                    self.findings.append(found)
                else:
                    self.problems.append(found)
                return
        self.findings.append(look_ahead(encoded, tokens, known, i, p))

    def measure(self, encoded: Encoded) -> None:
        """Compare the size of the code with the charges: token by token, and of all at once."""
        n, tokens = len(encoded), self.stream.tokens[: len(encoded)]
        at_once = None if self.claimed_nats is None else self.claimed_nats[:n]
        if at_once is None:
            try:
                at_once = self._within(1.0, lambda: self.subject.charge(self.stream, n))
            except StoppedError as error:
                self.problems.append(f"While all tokens were scored at once, {error}.")
        nats = encoded.nats if at_once is None else at_once
        self.n_at_once = 0 if at_once is None else n
        size = size_of(encoded, nats)
        self.conditions |= {
            "code_bytes": len(encoded.code), "code_bits": size.coded,
            "shown_bits": size.shown, "claimed_bits": size.claimed, "excess": size.excess,
        }  # fmt: skip
        self.remarks.append(f"{n:,} tokens became {size}.")
        finding = find_excess(encoded, encoded.nats, tokens)
        if finding is None and at_once is not None:
            condition: Condition = "C1" if self.claimed_nats is None else "C3"
            finding = find_excess(encoded, at_once, tokens, condition=condition)
        if finding is not None:
            self.findings.append(finding)
        elif size.shown < (1 - MARGIN) * size.claimed:
            self.remarks.append("The scorer charges more than it needs to: the code is shorter.")

    def report(self) -> AuditReport:
        """What all steps have shown."""
        n_all = len(self.stream.tokens)
        n_coded = 0 if self.encoded is None else len(self.encoded)
        names: list[tuple[Condition, str, int]] = [
            ("C1", "each token decoded from the code and the tokens before it", self.n_decoded),
            ("C2", "the code as long as the charge, by tables that sum to 2^24", n_coded),
            ("C3", "each distribution made before its token was known", self.n_decoded),
        ]
        if self.n_at_once:
            names.append(("C1", "charges of all tokens at once against the code", self.n_at_once))
        checks = tuple(
            Check(
                condition,
                what,
                n,
                "tokens",
                n,
                smallest_share(n, n_all),
                "" if n == n_all else f"It ended after {n:,} of {n_all:,} tokens{self._why(n)}.",
                is_enough=n == n_coded and n >= min(n_all, ENOUGH),
            )
            for condition, what, n in names
        )
        return AuditReport(
            self.subject.name,
            tuple(self.findings),
            checks,
            tuple(self.problems),
            tuple(self.remarks),
            (HELD,) if self.n_at_once else (HELD, AT_ONCE),
            self._all_conditions(n_coded),
            calls=self.n_calls + self.n_decoded,
            tokens_scored=self.n_calls + self.n_decoded,
            seconds=monotonic() - self._started,
        )

    def _why(self, n: int) -> str:
        """Why a check ended after n tokens."""
        has_failed = bool(self.findings or self.problems) and n < len(self.stream.tokens)
        return "" if has_failed else f", with the budget of {self.budget_seconds:g} s"

    def _all_conditions(self, n_coded: int) -> dict[str, Any]:
        """Conditions of the report: tokens, options, what moves rounding, and figures."""
        tokens = self.stream.tokens[:n_coded]
        settings = {**self.subject.settings, **self.subject.surroundings}
        return {
            "tokens": n_coded,
            "documents": len(self.stream.layout.lengths),
            "tokens_hash": digest_of(tokens).hex(),
            "budget_seconds": self.budget_seconds,
            "table_bits": PRECISION,
            **{name: value for name, value in settings.items() if value is not None},
            **self.conditions,
        }
