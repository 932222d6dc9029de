"""Score before update (C3): the distribution shown before a token is the one charged for."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from ngrammix.auditing.report import Check, smallest_share
from ngrammix.auditing.scorer import GRACE, StoppedError, calling, run_within
from ngrammix.auditing.session import Session, shown
from ngrammix.auditing.witness import Witness
from ngrammix.logits import to_numpy
from ngrammix.types import Floats, Tokens

SHARE = 0.3  # of the time that is left
OTHERS = 3  # tokens beside the one of the stream whose charge is compared
ENOUGH = 3  # positions without which no verdict is given


class Stepper(Protocol):
    """A scorer that goes through a stream token by token."""

    def probs(self) -> Any:
        """(V,) probabilities of the next token."""

    def commit(self, token: int) -> Any:
        """Take the next token; may return its cost in nats."""


def scores_of(make: Callable[[], Stepper]) -> Callable[[Tokens], Floats]:
    """A function that scores a stream by a fresh stepper."""

    def score_fn(tokens: Tokens) -> Floats:
        stepper, nats = make(), np.empty(len(tokens))
        for i, token in enumerate(tokens.tolist()):
            with np.errstate(divide="ignore", invalid="ignore"):
                nats[i] = -np.log(row_of(stepper.probs())[token])
            stepper.commit(token)
        return nats

    return score_fn


def row_of(probs: Any) -> Floats:
    """Probabilities as (V,) float64; ValueError if they are no row of numbers."""
    row = np.asarray(to_numpy(probs))
    if row.ndim != 1 or row.dtype.kind not in "fiu":
        raise ValueError(
            f"probabilities must be a row of numbers, got shape {row.shape} and dtype {row.dtype}"
        )
    return row.astype(np.float64)


def row_after(probs_fn: Callable[[Tokens], Any], prefix: Tokens) -> Floats:
    """What ``probs_fn`` says of the token after a prefix."""
    return row_of(probs_fn(prefix.copy()))


def check_probs_fn(session: Session, probs_fn: Callable[[Tokens], Any], nats: Floats) -> None:
    """Findings if ``probs_fn(prefix)`` does not sum to 1, or is not what the scores charge."""
    until, began = session.clock.until(SHARE), session.clock.calls
    n, tried, rng = len(session.tokens), 0, session.rng("probs_fn")
    order = dict.fromkeys([0, 1, n - 1, n // 2, *session.edges, *rng.permutation(n)])
    for t in [int(t) for t in order if t < n][: session.n_positions]:
        prefix = session.tokens[:t]
        row = called(session, partial(row_after, probs_fn, prefix))
        is_right = check_row(session, row, prefix)
        tried += 1
        if is_right:
            others = rng.integers(session.vocab_size, size=OTHERS)
            tokens = [int(session.tokens[t]), *map(int, others)]
            for token, charged in zip(tokens, charges_at(session, t, tokens, nats), strict=True):
                check_charge(session, prefix, token, row[token], charged)
        if session.clock.used() > until or not is_right or session.has("C3"):
            break
    session.checks.append(
        Check("C3", "probs_fn against the charges of score_fn", tried, "positions",
              session.clock.calls - began, smallest_share(tried), is_enough=tried >= min(ENOUGH, n))
    )  # fmt: skip


def charges_at(session: Session, t: int, tokens: list[int], nats: Floats) -> Floats:
    """What tokens cost at a position; that of the stream costs what the whole stream charged."""
    streams = [np.append(session.tokens[:t], token) for token in tokens[1:]]
    return np.array([nats[t], *(scores[-1] for scores in session.score_each(streams))])


def check_stepper(session: Session, make: Callable[[], Stepper], nats: Floats) -> None:
    """Findings if what ``probs()`` shows is not a distribution, or not what is charged."""
    until, began = session.clock.until(SHARE), session.clock.calls
    stepper, n = called(session, make), len(session.tokens)
    tried = 0
    for t, token in enumerate(session.tokens.tolist()):
        prefix = session.tokens[:t]
        row = called(session, lambda: row_of(stepper.probs()))
        again = called(session, lambda: row_of(stepper.probs()))
        if not check_row(session, row, prefix):
            break
        if not np.array_equal(row, again):
            v = int(np.argmax(np.abs(row - again)))
            tell(session, prefix, v, row[v], again[v], "probs() must not change what it shows, got")
            break
        returned = called(session, partial(stepper.commit, token))
        charged = [float(nats[t])]
        if isinstance(returned, int | float | np.floating):
            charged.append(float(returned))
        for cost in charged:
            check_charge(session, prefix, token, row[token], cost)
        tried += 1
        if session.has("C3") or session.clock.used() > until or tried >= session.n_positions:
            break
    session.checks.append(
        Check("C3", "probs() before commit(token), against the charge", tried, "positions",
              session.clock.calls - began, smallest_share(tried, n),
              is_enough=tried >= min(ENOUGH, n))
    )  # fmt: skip


def check_row(session: Session, row: Floats, prefix: Tokens) -> bool:
    """Whether a row is a distribution of the vocabulary; else there is a finding."""
    if len(row) != session.vocab_size:
        raise StoppedError(
            f"probabilities must be of the {session.vocab_size} tokens, got {len(row)}; check "
            "vocab_size"
        )
    is_number = bool(np.isfinite(row).all() and (row >= 0).all())
    total = float(row.sum())
    if is_number and abs(total - 1) <= session.rounding.of_sum(-np.log(np.maximum(row, 1e-300))):
        return True
    witness = Witness("shown", (1.0, total), "probability", shown(prefix), position=len(prefix))
    session.find(
        "C2", len(prefix), witness,
        f"the probabilities of the next token must be 0 or more and sum to 1, got {total:.6g} "
        f"after {len(prefix)} tokens",
    )  # fmt: skip
    return False


def check_charge(
    session: Session, prefix: Tokens, token: int, probability: float, nats: float
) -> None:
    """A finding if a token is charged for by another probability than was shown."""
    charged = float(np.exp(-nats))
    tolerance = float(np.expm1(session.rounding.between(np.array([nats]))[0])) + 1e-9
    if not abs(charged - probability) <= tolerance * max(charged, probability):
        what = "the distribution that is shown before a token must be the one charged for, got"
        tell(session, prefix, token, probability, charged, what)


def tell(
    session: Session, prefix: Tokens, token: int, first: float, second: float, rule: str
) -> None:
    """The finding of a token that has two probabilities."""
    session.find(
        "C3",
        len(prefix),
        Witness(
            "shown", (float(first), float(second)), "probability", shown(prefix),
            position=len(prefix), tokens=(token,),
        ),
        f"{rule} {first:.6g} and {second:.6g} for token {token} after {len(prefix)} tokens",
    )  # fmt: skip


def called(session: Session, function: Callable[[], Any]) -> Any:
    """What a function of the scorer's returns, within the budget; StoppedError if it fails."""

    def guarded() -> tuple[Any]:
        with calling():
            return (function(),)

    answer = run_within(session.clock.left() + GRACE, guarded)
    if answer is None:
        raise StoppedError(
            f"the scorer did not return within the budget of {session.clock.budget:g} s; raise "
            "budget_seconds"
        )
    session.clock.calls += 1
    return answer[0]
