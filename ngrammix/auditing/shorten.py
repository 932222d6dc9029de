"""Shorten: how much of a stream is audited, by what the first calls cost."""

from ngrammix.auditing.session import Session
from ngrammix.types import Floats

HEAD = 64  # tokens of the first calls
OF_CALL = 0.02  # of the budget that one call may take


def shorten(session: Session) -> tuple[Floats, Floats]:
    """Keep so much of the stream that many calls fit into the budget.

    Returns
    -------
    two arrays (H,) of float64, nats
        Scores of its first tokens, by the first call of all and by the second.
    """
    tokens, n = session.tokens, len(session.tokens)
    cold = session.score(tokens[:HEAD])
    first = session.clock.used()
    warm = session.score(tokens[:HEAD])
    second = session.clock.used()
    session.score(tokens[: 4 * HEAD])
    short, long = second - first, session.clock.used() - second
    each = max(0.0, long - short) / (3 * HEAD)
    fits = int(max(0.0, OF_CALL * session.clock.budget - short) / max(each, 1e-9))
    if n > 4 * HEAD and fits < n:
        session.tokens = tokens[: max(4 * HEAD, fits)]
        session.remarks.append(
            f"the first {len(session.tokens):,} of {n:,} tokens were audited: a call on all of "
            f"them would take about {each * n:.2g} s"
        )
    return cold, warm
