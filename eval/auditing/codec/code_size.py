"""The size of the code against the bits that the scorer charges."""

from dataclasses import dataclass
from math import log

import numpy as np

from eval.auditing.codec.range_coder import ROUNDING
from eval.auditing.codec.round_trip import Encoded
from eval.types import Floats, Tokens
from ngrammix.auditing.report import Condition, Finding
from ngrammix.auditing.witness import Witness

MARGIN = 0.001  # share of the charged bits by which the code may be longer
SIGMAS = 6.0


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


def size_of(encoded: Encoded, nats: Floats) -> CodeSize:
    """The sizes of coded tokens that are charged nats (N,)."""
    claimed = float(nats.sum()) / log(2)
    shown = float((encoded.shown + np.log(encoded.sums)).sum()) / log(2)
    rounding = max(ROUNDING, encoded.grain / log(2)) * len(encoded)
    allowed = claimed + max(MARGIN * claimed, rounding)
    return CodeSize(8 * len(encoded.code), shown, claimed, allowed)


def find_excess(
    encoded: Encoded, nats: Floats, tokens: Tokens, *, condition: Condition = "C3"
) -> Finding | None:
    """Proof that tokens (N,) are charged less than their distributions allow, or None.

    C2 if the probabilities sum to more than 1. Else the charge is not that of what was shown: the
    `condition` is C1 if `nats` are those of the same scorer in a pass over all tokens at once.
    """
    size = size_of(encoded, nats)
    noise = noise_of(encoded.shown - nats) if condition == "C1" else 0.0
    if size.shown <= size.allowed + noise / log(2):
        return None
    over_one = np.log(encoded.sums)
    undercharged = encoded.shown - nats
    if over_one.sum() >= undercharged.sum():
        condition, i = "C2", first_large(over_one)
        found = f"probabilities sum to {encoded.sums[i]:.6g} at position {i}; divide by their sum"
        witness = Witness(
            "sum", (1.0, float(encoded.sums[i])), "probability", ids(tokens[:i]), (), i
        )
    else:
        i = first_large(undercharged)
        shown, charged = float(encoded.shown[i]), float(nats[i])
        how, mend = " and was shown with", "charge for the distribution that stood before the token"
        witness = Witness(
            "shown", (shown, charged), "nats", ids(tokens[:i]), (), i, ids(tokens[i : i + 1])
        )
        if condition == "C1":
            how = ", with later tokens in the window, and without them"
            mend = "mask the later tokens"
            witness = Witness(
                "future", (shown, charged), "nats", ids(tokens[: i + 1]), ids(tokens), i
            )
        found = (
            f"token {tokens[i]} at position {i} is charged {charged:.6g} nats{how} {shown:.6g}; "
            f"{mend}"
        )
    rule = f"a code must be at most {MARGIN:.1%} longer than what is charged, got {size}"
    return Finding(condition, i, witness, f"{rule}: {found}")


def noise_of(differences: Floats) -> float:
    """What rounding may add to a sum of differences (N,), in nats, with 6 standard errors.

    Two runs of a model in few bits round otherwise, to both sides alike. So the differences below 0
    tell the noise of all of them, also where a leak is above.
    """
    below = np.minimum(differences, 0.0)
    return SIGMAS * float(np.sqrt(2.0 * (below**2).sum()))


def ids(tokens: Tokens) -> tuple[int, ...]:
    """Tokens (N,) as a witness holds them."""
    return tuple(tokens.tolist())


def first_large(gains: Floats) -> int:
    """Index of the first gain (N,) that comes near the largest: the shortest prefix that shows."""
    return int(np.argmax(gains >= 0.9 * gains.max()))
