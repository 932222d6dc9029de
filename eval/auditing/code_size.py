"""The size of the code against the bits that the scorer charges."""

from dataclasses import dataclass
from math import log

import numpy as np

from eval.auditing.range_coder import ENDING, ROUNDING
from eval.auditing.round_trip import Encoded
from eval.types import Tokens
from ngrammix.auditing.report import Finding
from ngrammix.auditing.witness import Witness

MARGIN = 0.001  # share of the charged bits by which the code may be longer


@dataclass(frozen=True)
class CodeSize:
    """Bits of the code, of the charge, and the most that the code may have."""

    coded: int
    claimed: float
    allowed: float

    @property
    def excess(self) -> float:
        """By how much of the claimed bits the code is longer; negative where it is shorter."""
        return (self.coded - self.claimed) / self.claimed if self.claimed > 0 else 0.0

    def __str__(self) -> str:
        return (
            f"{self.coded:,} bits of code for {self.claimed:,.1f} bits charged ({self.excess:+.3%})"
        )


def size_of(encoded: Encoded) -> CodeSize:
    """The size of the code, the charge, and what is allowed.

    Allowed are 0.1 % of the charge; for streams of less than 1/2 bit a token what the coder rounds,
    which is at most 1/2000 bit a token; and 64 bits for the end of the code.
    """
    claimed = float(encoded.nats.sum()) / log(2)
    margin = max(MARGIN * claimed, ROUNDING * len(encoded))
    return CodeSize(8 * len(encoded.code), claimed, claimed + margin + ENDING)


def find_excess(encoded: Encoded, tokens: Tokens) -> Finding | None:
    """Proof that tokens (N,) were charged less than their distributions allow, or None.

    C2 if the probabilities sum to more than 1, else C3: the charge is not that of what was shown.
    """
    size = size_of(encoded)
    if size.coded <= size.allowed:
        return None
    over_one = np.log(encoded.sums)
    undercharged = encoded.shown - encoded.nats
    if over_one.sum() >= undercharged.sum():
        i = int(np.argmax(over_one))
        found = f"probabilities sum to {encoded.sums[i]:.6g} at position {i}; divide by their sum"
        witness = Witness(
            "sum", (1.0, float(encoded.sums[i])), "probability", tuple(tokens[:i].tolist()),
            position=i,
        )  # fmt: skip
    else:
        i = int(np.argmax(undercharged))
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
