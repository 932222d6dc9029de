"""The size of the code against the bits that the scorer charges."""

from dataclasses import dataclass
from math import log

import numpy as np

from eval.auditing.range_coder import ROUNDING
from eval.auditing.round_trip import Encoded
from eval.types import Floats, Tokens
from ngrammix.auditing.report import Finding
from ngrammix.auditing.witness import Witness

MARGIN = 0.001  # share of the charged bits by which the code may be longer


@dataclass(frozen=True)
class CodeSize:
    """Sizes of N coded tokens, in bits.

    Attributes
    ----------
    coded : int
        Of the code.
    shown : float
        Of the information by the distributions that coded the tokens, each divided by its sum. The
        code is at most 1/2000 bit a token longer, and 64 bits for its end.
    claimed : float
        What the scorer charges.
    allowed : float
        The most that `shown` may be: 0.1 % more than what is charged, or where that is more, the
        rounding of the coder (1/2000 bit a token) or of the scorer's probabilities.
    """

    coded: int
    shown: float
    claimed: float
    allowed: float

    @property
    def excess(self) -> float:
        """By which share of the claimed bits the code is longer; negative where it is shorter."""
        return (self.coded - self.claimed) / self.claimed if self.claimed > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.coded:,} bits of code for {self.claimed:,.1f} bits charged ({self.excess:+.3%})"
        )


def size_of(encoded: Encoded) -> CodeSize:
    """The sizes of coded tokens."""
    claimed = float(encoded.nats.sum()) / log(2)
    shown = float((encoded.shown + np.log(encoded.sums)).sum()) / log(2)
    rounding = max(ROUNDING, encoded.grain / log(2)) * len(encoded)
    return CodeSize(
        8 * len(encoded.code), shown, claimed, claimed + max(MARGIN * claimed, rounding)
    )


def find_excess(encoded: Encoded, tokens: Tokens) -> Finding | None:
    """Proof that tokens (N,) were charged less than their distributions allow, or None.

    C2 if the probabilities sum to more than 1, else C3: the charge is not that of what was shown.
    """
    size = size_of(encoded)
    if size.shown <= size.allowed:
        return None
    over_one = np.log(encoded.sums)
    undercharged = encoded.shown - encoded.nats
    if over_one.sum() >= undercharged.sum():
        i = first_large(over_one)
        found = f"probabilities sum to {encoded.sums[i]:.6g} at position {i}; divide by their sum"
        witness = Witness(
            "sum", (1.0, float(encoded.sums[i])), "probability", tuple(tokens[:i].tolist()),
            position=i,
        )  # fmt: skip
    else:
        i = first_large(undercharged)
        shown, charged = float(encoded.shown[i]), float(encoded.nats[i])
        found = (
            f"token {tokens[i]} at position {i} is charged {charged:.6g} nats and was shown with "
            f"{shown:.6g}; charge for the distribution that stood before the token"
        )
        witness = Witness(
            "shown", (shown, charged), "nats", tuple(tokens[:i].tolist()), position=i,
            tokens=(int(tokens[i]),),
        )  # fmt: skip
    rule = f"a code must be at most {MARGIN:.1%} longer than what is charged, got {size}"
    return Finding("C2" if witness.kind == "sum" else "C3", i, witness, f"{rule}: {found}")


def first_large(gains: Floats) -> int:
    """Index of the first gain (N,) that comes near the largest: the shortest prefix that shows."""
    return int(np.argmax(gains >= 0.9 * gains.max()))
