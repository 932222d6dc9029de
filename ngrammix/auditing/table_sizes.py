"""Table size: a score must not improve as the table shrinks, for a smaller table knows less."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ngrammix.auditing.normalisation import check_bets
from ngrammix.auditing.report import Check
from ngrammix.auditing.scorer import Scorer
from ngrammix.auditing.session import Session, shown
from ngrammix.auditing.witness import Witness
from ngrammix.types import Tokens

NAME = "table_size"
SIZES = (2**6, 2**10, 2**14, 2**18)
GAIN = 0.03  # of the cost: a smaller table may forget what misled it, but not gain more than this


def takes_table_size(score_fn: Callable[..., Any]) -> bool:
    """Whether a function has an argument `table_size`."""
    try:
        return NAME in inspect.signature(score_fn).parameters
    except (TypeError, ValueError):  # of a builtin
        return False


def cost_of(scorer: Scorer, tokens: Tokens) -> float:
    """Nats of a stream, rounded once; a score that is no number counts as 0."""
    return math.fsum(np.nan_to_num(scorer(tokens)))


def improves(smaller: float, larger: float) -> bool:
    """Whether the cost with the smaller table is lower than forgetting can explain."""
    return smaller < (1 - GAIN) * larger


def check_table_sizes(
    session: Session, score_fn: Callable[..., Any], sizes: Sequence[int] = SIZES
) -> None:
    """A finding if the cost of the stream falls as the table shrinks."""
    costs = []
    for size in sorted(sizes):
        scorer = Scorer(score_fn, session.clock, {NAME: size})
        costs.append(cost_of(scorer, session.tokens))
        if size == min(sizes):
            smallest = replace(session, scorer=scorer)  # the lists of findings are shared
    best = max(costs[1:], default=costs[0])
    if improves(costs[0], best):
        worst = sorted(sizes)[costs.index(best)]
        session.find(
            "C2",
            None,
            Witness(
                "table", (best, costs[0]), "nats", shown(session.tokens),
                tokens=(worst, min(sizes)),
            ),
            f"a score must not improve as the table shrinks, got {best:.6g} nats with table_size "
            f"{worst} and {costs[0]:.6g} with {min(sizes)}: colliding counts pass for evidence",
        )  # fmt: skip
    elif costs[0] < best:
        session.remarks.append(
            f"the score improves by {best - costs[0]:.3g} nats as {NAME} shrinks to {min(sizes)}"
        )
    if not session.has("C2"):
        check_bets(smallest)
    session.checks.append(
        Check("C2", f"{NAME} of {', '.join(map(str, sorted(sizes)))}", len(sizes), "sizes",
              len(sizes))
    )  # fmt: skip
