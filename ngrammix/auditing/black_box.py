"""Audit: whether a function that scores tokens is a legal scorer, by calling it alone."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ngrammix.auditing.causality import check_causality
from ngrammix.auditing.environment import environment
from ngrammix.auditing.normalisation import check_bets, check_few_sums, check_lowest, check_sums
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.scorer import Clock, CountError, ScoreFn, Scorer, StoppedError
from ngrammix.auditing.session import Session, shown
from ngrammix.auditing.shorten import shorten
from ngrammix.auditing.single_pass import check_again, check_prefixes, check_repeats
from ngrammix.auditing.stepwise import Stepper, check_probs_fn, check_stepper, scores_of
from ngrammix.auditing.streams import adversarial
from ngrammix.auditing.table_sizes import check_table_sizes, takes_table_size
from ngrammix.auditing.witness import Witness
from ngrammix.checks import as_integers, check_ids, check_int, check_vocab_size
from ngrammix.types import Tokens

N_TOKENS = 4096  # of the stream that is made when none is given
UNSTEADY = "nothing else was checked: the same stream has other scores in other runs"
MAX_TOKENS = 2**24
NOT_CHECKED = (
    "the bytes that the scores are divided by (audit_bytes, audit_log)",
    "what the scorer reads beside the tokens: files, the network, tables made from the same text",
    "the size of the artifact, and the time of a whole run",
)


def audit(
    score_fn: ScoreFn | None,
    tokens: ArrayLike | None = None,
    vocab_size: int | None = None,
    *,
    probs_fn: Callable[[Tokens], Any] | None = None,
    stepper: Callable[[], Stepper] | None = None,
    edges: Sequence[int] = (),
    n_positions: int = 4096,
    seed: int = 0,
    budget_seconds: float = 50.0,
) -> AuditReport:
    """The verdict on a scorer, its proofs, and how far the search for faults went.

    The scorer is a black box: it is called on the stream, on prefixes of it, on altered copies and
    on random streams, each time from scratch.

    Parameters
    ----------
    score_fn : callable
        ``score_fn(tokens)`` returns the cost of each token, (n,) nats, of a stream (n,) int64 of
        any length n >= 1 and any ids below `vocab_size`. An argument ``table_size`` is varied too.
        None with a `stepper`.
    tokens : (N,) int, optional
        The stream. Default: 4,096 tokens with repeats, runs, rare tokens.
    vocab_size : int
        Number of ids V.
    probs_fn : callable, optional
        ``probs_fn(prefix)`` returns the probabilities (V,) of the next token.
    stepper : callable, optional
        Without arguments, it returns a scorer with ``probs()``, the probabilities (V,) of the next
        token, and ``commit(token)``.
    edges : sequence of int
        Positions that are tested first, such as the starts of documents and chunks.
    n_positions : int
        Positions that each check tests, at most. If the budget is not used up, it decides alone how
        far the search goes, and the report is the same in every run.
    seed : int
        Of the random numbers.
    budget_seconds : float
        Wall time after which the search ends.

    Returns
    -------
    AuditReport
        ``guilty`` with a proof; ``legal`` if every check went far enough and found nothing;
        ``unknown`` if the scorer raised, hung, or was too slow.

    Raises
    ------
    ValueError
        If an argument is wrong. What the scorer does wrong is in the report.

    Notes
    -----
    The conditions C1 to C4 are those of openai/parameter-golf, issue 1017.

    Examples
    --------
    >>> import numpy as np
    >>> import ngrammix
    >>> def uniform(tokens):
    ...     return np.full(len(tokens), np.log(16))
    >>> ngrammix.audit(uniform, vocab_size=16, budget_seconds=1).verdict
    'legal'
    >>> def knows_the_next(tokens):
    ...     return np.where(np.roll(tokens, -1) == 3, 0.1, np.log(16))
    >>> ngrammix.audit(knows_the_next, vocab_size=16, budget_seconds=5).findings[0].condition
    'C1'
    """
    v = check_vocab_size(vocab_size)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    n_positions = check_int(n_positions, "n_positions", 1, MAX_TOKENS)
    stream = (
        adversarial(v, N_TOKENS, np.random.default_rng(seed))
        if tokens is None
        else as_stream(tokens, v)
    )
    for edge in edges:
        check_int(edge, "an edge", 0, len(stream) - 1)
    check_callables(score_fn=score_fn, probs_fn=probs_fn, stepper=stepper)
    scores = scores_by(score_fn, stepper)
    budget = check_budget(budget_seconds)
    clock = Clock(budget)
    session = Session(Scorer(scores, clock), clock, stream, v, n_positions, tuple(edges), seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the scorer: odd streams may well make it warn
        problems = run(session, scores, probs_fn, stepper)
    return AuditReport(
        name_of(score_fn or stepper),
        tuple(session.findings),
        tuple(session.checks),
        problems,
        tuple(session.remarks),
        NOT_CHECKED,
        {
            "tokens": len(stream),
            "tokens_audited": len(session.tokens),
            "vocab_size": v,
            "seed": seed,
            "n_positions": n_positions,
            "budget_seconds": budget,
            **environment(),
        },
        clock.calls,
        clock.tokens,
        clock.used(),
    )


def run(
    session: Session,
    score_fn: ScoreFn,
    probs_fn: Callable[[Tokens], Any] | None,
    stepper: Callable[[], Stepper] | None,
) -> tuple[str, ...]:
    """Run all checks; returns why there can be no verdict, if so."""
    try:
        first = check_repeats(session, shorten(session))
        if is_unsteady(session) or first is None:
            return ()
        check_prefixes(session, first)
        if is_unsteady(session):
            return ()
        if probs_fn is None and stepper is None:
            check_few_sums(session)
        if probs_fn is not None:
            check_probs_fn(session, probs_fn, first)
        if stepper is not None:
            check_stepper(session, stepper, first)
        check_causality(session, first)
        if is_unsteady(session):
            return ()
        check_bets(session)
        if takes_table_size(score_fn):
            check_table_sizes(session, score_fn)
        if not session.has("C2"):
            check_lowest(session, first)
        if probs_fn is None and stepper is None:
            check_sums(session)
        check_again(session, first)
    except StoppedError as error:
        return (str(error),)
    except CountError as error:
        n = len(error.tokens)
        session.find(
            "C4",
            None,
            Witness("count", (float(n), float(error.n_scores)), "tokens", shown(error.tokens)),
            f"each token must have one score, got {error.n_scores} scores for {n} tokens; "
            + (
                "score the first token too, such as by a uniform distribution"
                if error.n_scores < n
                else "leave out what is scored beside the tokens"
            ),
        )
    return ()


def is_unsteady(session: Session) -> bool:
    """Whether the same stream has had other scores, so that no other check can tell; remarked."""
    is_found = session.has("C4", "repeat")
    if is_found:
        session.remarks.append(UNSTEADY)
    return is_found


def scores_by(score_fn: ScoreFn | None, stepper: Callable[[], Stepper] | None) -> ScoreFn:
    """The function that scores a stream, or one that goes through it by a stepper."""
    if score_fn is not None:
        return score_fn
    if stepper is None:
        raise ValueError("score_fn must be a function, got None; pass it, or a stepper")
    return scores_of(stepper)


def as_stream(tokens: ArrayLike, vocab_size: int) -> Tokens:
    """Tokens (N,) int64, N >= 1, each below the size of the vocabulary; ValueError otherwise."""
    stream = as_integers(tokens, "tokens").ravel()
    if not 1 <= len(stream) <= MAX_TOKENS:
        raise ValueError(
            f"tokens must be 1 to {MAX_TOKENS} ids, got {len(stream)}; leave them out for a stream "
            "that is made for the audit"
        )
    check_ids(stream, vocab_size, "tokens")
    return stream.astype(np.int64)


def check_callables(**functions: object) -> None:
    """ValueError unless all that is given can be called."""
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise ValueError(
                f"{name} must be a function, got {type(value).__name__}; pass it without calling it"
            )


def check_budget(seconds: float) -> float:
    """The budget as float; ValueError unless it is a number of seconds > 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise ValueError(
            f"budget_seconds must be a number > 0, got {seconds!r}; leave it out for 50"
        )
    return float(seconds)


def name_of(function: object) -> str:
    """What a report calls a function."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else str(name)
