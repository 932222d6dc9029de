"""Findings about a model, each in a sentence: leaks, rows that are no distribution."""

from typing import Any

import numpy as np

from eval.auditing.models.reader import NoDistributionError
from eval.models.causality import SWITCH, describe_leak
from eval.models.probe import Leak
from eval.types import Tokens
from ngrammix.auditing.report import Condition, Finding
from ngrammix.auditing.witness import Witness
from ngrammix.logits import check_no_probabilities

CONDITIONS: dict[str, Condition] = {
    "future": "C1", "rows": "C1", "length": "C1", "repeat": "C4", "cache": "C4",
    "document": "C4",
}  # fmt: skip
OWN_TEXTS = {
    "cache": (
        "a stream must have the same scores however it is cut, got {name}: the logits at position "
        "{position} of {length} moved by {nats:.3g} nats when the tokens from position {edge} on "
        "were read one by one with its cache; score with the full pass, or mend the cache"
    ),
    "document": (
        "documents must be kept apart, got {name}: the logits at position {position} of {length} "
        "moved by {nats:.3g} nats when other tokens stood before the document that begins at "
        "position {edge}; mask what mixes them, such as attention, convolutions and gates with the "
        "token before"
    ),
}
NO_DISTRIBUTION = (
    "the logits of a position must be a distribution, got {name}: the largest logit at position "
    "{position} of {length} is {value}; mask tokens with -inf, and let one be finite"
)


def finding_of(found: Leak, witness: Witness, name: str) -> Finding:
    """The finding of a leak, for the model of this name."""
    if found.kind in OWN_TEXTS:
        text = OWN_TEXTS[found.kind].format(name=name, **vars(found))
    else:
        text = describe_leak(found, name).removesuffix(SWITCH)
    return Finding(CONDITIONS[found.kind], found.position, witness, text)


def no_distribution(error: NoDistributionError, name: str) -> Finding:
    """The finding of a row of logits that has no softmax."""
    n = len(error.tokens)
    text = NO_DISTRIBUTION.format(name=name, position=n - 1, length=n, value=error.value)
    stream = tuple(map(int, error.tokens))
    witness = Witness("logits", (0.0, error.value), "nats", stream, (), n - 1)
    return Finding("C2", n - 1, witness, text)


def probabilities_in(rows: Tokens, logits: Any) -> Finding | None:
    """The finding of logits (B, T, V) of rows (B, T) that are probabilities; None if they are not.

    Its numbers are the probability of the likeliest token, and what log-softmax makes of it.
    """
    try:
        check_no_probabilities(logits.flatten(0, 1), np.arange(rows.size))
    except ValueError as error:
        row = logits[0, 0].float()
        token = int(row.argmax())
        numbers = float(row[token]), float(row.softmax(-1)[token])
        stream = (int(rows[0, 0]),)
        witness = Witness("logits", numbers, "probability", stream, (), 0, (token,))
        return Finding("C2", 0, witness, str(error))
    return None
