"""Witness: the smallest input that shows a violation, and the two numbers that differ."""

from dataclasses import dataclass
from typing import Literal

# What a witness is replayed by; see `ngrammix.auditing.replay`.
Kind = Literal[
    "future",  # C1: `stream` and `other` are alike before their first difference, the nats are not
    "sum",  # C2: probabilities of `tokens` after `stream`; right is 1
    "range",  # C2: a probability above 1, or a score that is no number
    "bets",  # C2: random streams on which no distribution could win so much
    "table",  # C2: the score falls as the table shrinks
    "shown",  # C3: the probability that was shown before `tokens[0]`, and the one charged for
    "repeat",  # C4: `stream` scored twice, with `other` between
    "count",  # C4: tokens of `stream`, and scores that came back
    "logits",  # a model: `stream` and `other` as windows of one batch
    "bytes",  # bytes of the text, and bytes of the tokens
    "log",  # three numbers of a log line
]


@dataclass(frozen=True)
class Witness:
    """What shows a violation again.

    Attributes
    ----------
    kind : str
        How it is replayed.
    numbers : (float, float)
        What would be right, or came first; and what was found, or came second. The unit is that of
        `unit`.
    unit : str
        ``nats``, ``probability``, ``tokens``, ``bytes``, ``bits per byte``.
    stream : tuple of int
        The tokens to score.
    other : tuple of int
        The second stream, where there are two.
    position : int or None
        Index of the token whose numbers they are.
    tokens : tuple of int
        The tokens of a sum, or the one that was charged for. Empty for a sum: all of the
        vocabulary.
    text : str
        What is none of tokens: a text, a log line.
    """

    kind: Kind
    numbers: tuple[float, float]
    unit: str = "nats"
    stream: tuple[int, ...] = ()
    other: tuple[int, ...] = ()
    position: int | None = None
    tokens: tuple[int, ...] = ()
    text: str = ""
