"""Replay: the witnesses of a report shown again, on the scorer of whoever reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ngrammix.auditing.black_box import (
    MAX_TOKENS,
    N_TOKENS,
    as_stream,
    check_budget,
    check_callables,
)
from ngrammix.auditing.normalisation import charges, check_bets
from ngrammix.auditing.report import AuditReport, Finding
from ngrammix.auditing.rounding import moved
from ngrammix.auditing.scorer import Clock, CountError, ScoreFn, Scorer, StoppedError
from ngrammix.auditing.session import Session
from ngrammix.auditing.stepwise import called, check_charge, check_row, row_after
from ngrammix.auditing.table_sizes import NAME, cost_of, improves
from ngrammix.auditing.witness import Witness
from ngrammix.checks import check_int, check_vocab_size
from ngrammix.types import Floats, Tokens


@dataclass(frozen=True)
class Replayed:
    """What a witness shows now.

    Attributes
    ----------
    finding : Finding
        Of the report.
    is_shown : bool or None
        Whether the scorer breaks the condition again; None if it cannot be told.
    numbers : (float, float) or None
        The two numbers now.
    note : str
        Why it cannot be told; else empty.
    """

    finding: Finding
    is_shown: bool | None
    numbers: tuple[float, float] | None = None
    note: str = ""


def replay(
    report: AuditReport,
    score_fn: ScoreFn,
    *,
    probs_fn: Callable[[Tokens], Any] | None = None,
    budget_seconds: float = 50.0,
) -> tuple[Replayed, ...]:
    """What the witness of each finding of a report shows on a scorer.

    Parameters
    ----------
    report : AuditReport
        Of `audit`, such as one read from JSON.
    score_fn, probs_fn : callable
        As for `audit`.
    budget_seconds : float
        Wall time for all witnesses together.

    Raises
    ------
    ValueError
        If an argument is wrong, or the report names no size of the vocabulary.
    """
    check_callables(score_fn=score_fn, probs_fn=probs_fn)
    v = check_vocab_size(report.conditions.get("vocab_size"))
    seed = check_int(report.conditions.get("seed", 0), "seed", 0, 2**63 - 1)
    # Bets are on random streams: as many, and as long, as those of the audit.
    n_tokens, n_positions = (
        check_int(report.conditions.get(name, N_TOKENS), name, 1, MAX_TOKENS)
        for name in ("tokens_audited", "n_positions")
    )
    clock = Clock(check_budget(budget_seconds))
    for finding in report.findings:
        check_witness(finding.witness, v)
    results = []
    for finding in report.findings:
        session = Session(
            Scorer(score_fn, clock), clock, np.zeros(n_tokens, np.int64), v,
            n_positions, edges=(), seed=seed,
        )  # fmt: skip
        try:
            results.append(shown_again(session, finding, score_fn, probs_fn))
        except StoppedError as error:
            results.append(Replayed(finding, None, note=str(error)))
        except CountError as error:
            numbers = (float(len(error.tokens)), float(error.n_scores))
            is_shown = True if finding.witness.kind == "count" else None
            note = "" if is_shown else f"{error.n_scores} scores for {len(error.tokens)} tokens"
            results.append(Replayed(finding, is_shown, numbers, note))
    return tuple(results)


def check_witness(witness: Witness, vocab_size: int) -> None:
    """ValueError unless a witness has ids of the vocabulary, and scores at its position."""
    is_table = witness.kind == "table"  # its tokens are the sizes of two tables
    for ids in (witness.stream, witness.other, () if is_table else witness.tokens):
        if ids:
            as_stream(ids, vocab_size)
    streams = {"future": (witness.stream, witness.other), "repeat": (witness.stream,),
               "range": (witness.stream,)}.get(witness.kind, ())  # fmt: skip
    t, most = witness.position or 0, min(map(len, streams), default=None)
    if most is not None and t >= most:
        raise ValueError(
            f"the position of a witness must be in its streams, got {t} of {most} tokens; pass a "
            "report as `audit` wrote it"
        )
    if is_table and len(witness.tokens) != 2:
        raise ValueError(
            f"the witness of a table must have 2 sizes, got {len(witness.tokens)}; pass a report "
            "as `audit` wrote it"
        )


def shown_again(
    session: Session,
    finding: Finding,
    score_fn: ScoreFn,
    probs_fn: Callable[[Tokens], Any] | None,
) -> Replayed:
    """What one witness shows."""
    witness, t = finding.witness, finding.witness.position or 0
    stream, other = np.array(witness.stream, np.int64), np.array(witness.other, np.int64)
    if witness.kind == "future":
        return two(session, finding, *session.score_each([stream, other]))
    if witness.kind == "repeat":
        between = [other] if len(other) else []
        first, *_, second = session.score_each([stream, *between, stream])
        return two(session, finding, first, second)
    if witness.kind == "range":
        score = float(session.score(stream)[t])
        return Replayed(finding, bool(session.findings), (0.0, score))
    if witness.kind == "count":
        return Replayed(finding, False, (float(len(stream)), float(len(session.score(stream)))))
    if witness.kind == "sum":
        tokens = witness.tokens or range(session.vocab_size)
        nats = charges(session, stream, tokens)
        session.rounding.measure([nats])
        sum_of = float(np.exp(-nats).sum())
        if len(nats) < len(tokens) and sum_of <= 1:
            note = f"the budget ended after {len(nats):,} of {len(tokens):,} tokens"
            return Replayed(finding, None, (1.0, sum_of), note)
        beyond = (sum_of - 1) if witness.tokens else abs(sum_of - 1)
        return Replayed(finding, beyond > session.rounding.of_sum(nats), (1.0, sum_of))
    if witness.kind == "bets":
        check_bets(session)
        return Replayed(finding, session.has("C2"))
    if witness.kind == "table":
        larger, smaller = (
            cost_of(Scorer(score_fn, session.clock, {NAME: size}), stream)
            for size in witness.tokens
        )
        return Replayed(finding, improves(smaller, larger), (larger, smaller))
    if witness.kind == "shown" and probs_fn is not None:
        row = called(session, partial(row_after, probs_fn, stream))
        if len(row) != session.vocab_size:
            return Replayed(finding, None, note=f"probs_fn shows {len(row)} probabilities")
        if not witness.tokens:
            is_right = check_row(session, row, stream)
            return Replayed(finding, not is_right, (1.0, float(row.sum())))
        token = witness.tokens[0]
        nats = charges(session, stream, [token])
        if not len(nats):
            return Replayed(finding, None, note="the budget ended before the token was scored")
        session.rounding.measure([nats])
        check_charge(session, stream, token, float(row[token]), float(nats[0]))
        return Replayed(finding, session.has("C3"), (float(row[token]), float(np.exp(-nats[0]))))
    return Replayed(finding, None, note="it takes more than score_fn to show this witness")


def two(session: Session, finding: Finding, first: Floats, second: Floats) -> Replayed:
    """The verdict on the scores of two streams, at the position of the witness.

    A difference that was found though rounding could have made one as large, by where it stands,
    is shown again if half of it is.
    """
    session.rounding.measure([first, second])
    t = finding.witness.position or 0
    a, b = first[t : t + 1], second[t : t + 1]
    least = float(session.rounding.between(a)[0])
    found = abs(finding.witness.numbers[0] - finding.witness.numbers[1])
    is_shown = float(moved(a, b)[0]) > (least if not found < least else found / 2)
    return Replayed(finding, is_shown, (float(a[0]), float(b[0])))
