"""Findings of a round trip: what a scorer shows that none may, and runs that differ."""

from math import exp

from eval.auditing.codec.round_trip import Encoded, FreeTokenError, ScorerError
from eval.types import Tokens
from ngrammix.auditing.report import Condition, Finding
from ngrammix.auditing.witness import Witness

NOISE = 0.05  # nats between two runs: bfloat16 with sums in changing order


def finding_of(error: ScorerError, tokens: Tokens) -> Finding:
    """What a scorer shows or charges that no scorer may, as a finding."""
    is_charge = error.unit == "nats"
    witness = Witness(
        "range" if is_charge else "shown",
        error.numbers,
        error.unit,
        tuple(tokens[: error.position + is_charge].tolist()),
        position=error.position,
        tokens=() if error.token is None else (error.token,),
    )
    condition: Condition = "C3" if isinstance(error, FreeTokenError) else "C2"
    return Finding(condition, error.position, witness, str(error))


def look_ahead(encoded: Encoded, tokens: Tokens, known: Tokens, i: int, p: float) -> Finding:
    """Token i has the probability p where only tokens before it are known (N,); C1."""
    before = exp(-float(encoded.shown[i]))
    message = (
        f"a distribution must follow from the tokens before it, got the probability {p:.6g} for "
        f"token {tokens[i]} at position {i} where these alone are known, and {before:.6g} where "
        "all tokens are; let probs() look at committed tokens only"
    )
    witness = Witness(
        "future", (before, p), "probability", tuple(tokens.tolist()), tuple(known.tolist()), i,
        (int(tokens[i]),),
    )  # fmt: skip
    return Finding("C1", i, witness, message)


def chance(encoded: Encoded, again: Encoded, tokens: Tokens, i: int) -> Finding | str:
    """Token i has another distribution in a second run: C4, or a problem if rounding may do it."""
    before, after = exp(-float(encoded.shown[i])), exp(-float(again.shown[i]))
    what = (
        f"the probability {before:.6g} for token {tokens[i]} at position {i} in one run and "
        f"{after:.6g} in another"
    )
    if abs(encoded.shown[i] - again.shown[i]) <= NOISE:
        return f"Two runs of the scorer round otherwise, so nothing can be decoded: {what}."
    witness = Witness(
        "repeat", (before, after), "probability", tuple(tokens[: i + 1].tolist()), position=i,
        tokens=(int(tokens[i]),),
    )  # fmt: skip
    message = (
        f"a scorer must show the same distributions in every run, got {what}; fix its seeds, and "
        "keep no state from run to run"
    )
    return Finding("C4", i, witness, message)
