"""Encode and decode: tokens to a code and back, by one scorer of one token at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, inf, log
from time import monotonic
from typing import Any

import numpy as np

from eval.auditing.codec.range_coder import NotCodedError, TokenDecoder, TokenEncoder
from eval.types import Floats, Integers, Tokens
from ngrammix.auditing.scorer import StoppedError, described
from ngrammix.auditing.stepwise import Stepper, row_of
from ngrammix.logits import is_tensor

TOLERANCE = 1e-4  # by which a probability may exceed 1, and a charge be below 0: rounding
GRAINS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


class ScorerError(ValueError):
    """Raised if a scorer shows or charges what no scorer may.

    Attributes
    ----------
    position : int
        Index of the token that it is for.
    token : int or None
        The token whose number is wrong; None: all are.
    numbers : (float, float)
        What would be right, or the nearest such number; and what was found.
    unit : str
        Of these: ``probability`` or ``nats``.
    """

    def __init__(
        self, message: str, position: int, token: int | None, numbers: tuple[float, float],
        unit: str = "probability",
    ) -> None:  # fmt: skip
        self.position, self.token, self.numbers, self.unit = position, token, numbers, unit
        super().__init__(message)


class NoDistributionError(ScorerError):
    """Raised if a probability is NaN, negative or above 1, or all are 0, or a charge is no cost."""


class FreeTokenError(ScorerError):
    """Raised if a token is charged that was shown with the probability 0."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """N coded tokens.

    Attributes
    ----------
    code : bytes
        What `decode` reads.
    vocab_size : int
        V; 0 if N is 0.
    nats : (N,) float64, nats
        What the scorer charges for each token.
    shown : (N,) float64, nats
        Negative logarithm of the probability that it showed before the token, as it is.
    sums : (N,) float64
        Sum of the probabilities that it showed.
    checksums : (N,) int64
        Of the tables that each token was coded by.
    grain : float
        Largest relative error of a probability, by its dtype; 0 for 32 bits and more.
    """

    code: bytes
    vocab_size: int
    nats: Floats
    shown: Floats
    sums: Floats
    checksums: Integers
    grain: float = 0.0

    def __len__(self) -> int:
        """Return N, the number of tokens."""
        return len(self.nats)


@dataclass(frozen=True)
class Decoded:
    """A decoded token, the checksum of its tables, and the distribution (V,) shown for it.

    The token is None if none is coded like this; it is the last one then.
    """

    token: int | None
    checksum: int
    probabilities: Floats


def encode(stepper: Stepper, tokens: Tokens, *, deadline: float | None = None) -> Encoded:
    """Code tokens (N,), each under the distribution that the scorer shows before it.

    With a `deadline`, a time of `monotonic`, coding ends there: fewer tokens are coded then.

    Raises
    ------
    NoDistributionError
        If a probability is NaN, negative or above 1, or all are 0, or a charge is NaN or negative.
    FreeTokenError
        If a token is charged that was shown with the probability 0.
    StoppedError
        If the probabilities are no row of V numbers, or a token is not below V or has the
        probability 0.
    """
    encoder = TokenEncoder()
    columns: list[tuple[float, float, float, int]] = []
    vocab_size, grain = 0, 0.0
    for position, token in enumerate(tokens.tolist()):
        if deadline is not None and monotonic() > deadline:
            break
        raw = stepper.probs()
        grain = max(grain, grain_of(raw))
        p = as_distribution(raw, position, vocab_size)
        vocab_size = len(p)
        check_token(token, vocab_size, position)
        check = encoder.put(token, p)
        nats = charge_of(cost_of(stepper.commit(token)), float(p[token]), token, position)
        columns.append((nats, 0.0 - log(p[token]), float(p.sum()), check))
    nats_, shown, sums = np.array([row[:3] for row in columns], np.float64).reshape(-1, 3).T
    checks = np.array([row[3] for row in columns], np.int64)
    return Encoded(encoder.code(), vocab_size, nats_, shown, sums, checks, grain)


def grain_of(probabilities: Any) -> float:
    """Spacing of the numbers of 16 bits above 1, by which a probability and its log may differ."""
    name = str(getattr(probabilities, "dtype", "")).removeprefix("torch.")
    return GRAINS.get(name, 0.0)


def check_token(token: int, vocab_size: int, position: int) -> None:
    """Raise StoppedError unless a token is in [0, V)."""
    if not 0 <= token < vocab_size:
        raise StoppedError(
            f"tokens must be below the {vocab_size} of the scorer's distribution, got {token} at "
            f"position {position}; pass tokens of its vocabulary"
        )


def cost_of(returned: Any) -> float | None:
    """The number that ``commit`` returned, of any type; None if it returned something else."""
    if isinstance(returned, bool):
        return None
    if isinstance(returned, int | float | np.number) or is_tensor(returned):
        return float(returned) if np.ndim(returned) == 0 else None
    return None


def charge_of(nats: float | None, p: float, token: int, position: int) -> float:
    """The nats that a token of the probability p is charged; see the errors of `encode`."""
    if nats is not None and not nats > -TOLERANCE:
        raise NoDistributionError(
            f"a charge must be at least 0 nats, got {nats} for token {token} at position "
            f"{position}; return -log of its probability",
            position, token, (0.0, nats), "nats",
        )  # fmt: skip
    if p > 0:
        return 0.0 - log(p) if nats is None else nats
    if nats is None or nats == inf:
        raise StoppedError(
            f"a token must have a probability > 0 to be coded, got 0 for token {token} at position "
            f"{position}; give every token a small share"
        )
    raise FreeTokenError(
        f"a token must be charged for the probability shown before it, got {nats:.6g} nats for "
        f"token {token} at position {position}, which was shown with 0; charge what probs() shows",
        position, token, (0.0, exp(-nats)),
    )  # fmt: skip


def decode(stepper: Stepper, code: bytes, n_tokens: int) -> Iterator[Decoded]:
    """Decode tokens one by one; the scorer takes each when the next one is asked for.

    Raises
    ------
    NoDistributionError, StoppedError
        As `encode`.
    """
    decoder, vocab_size = TokenDecoder(code), 0
    for position in range(n_tokens):
        p = as_distribution(stepper.probs(), position, vocab_size)
        vocab_size = len(p)
        try:
            token, check = decoder.get(p)
        except NotCodedError:
            yield Decoded(None, 0, p)
            return
        yield Decoded(token, check, p)
        stepper.commit(token)


def as_distribution(probabilities: Any, position: int, vocab_size: int) -> Floats:
    """The probabilities (V,) as float64; V is free where `vocab_size` is 0; errors: `encode`."""
    try:
        p = row_of(probabilities)
    except Exception as error:  # of any kind: the object is the scorer's
        raise StoppedError(f"{described(error)} at position {position}") from error
    if len(p) == 0 or len(p) != (vocab_size or len(p)):
        raise StoppedError(
            f"probabilities must be of {vocab_size or 'all'} tokens, got {len(p)} at position "
            f"{position}; return one for each token of the vocabulary"
        )
    wrong = ~((p >= 0) & (p <= 1 + TOLERANCE))
    if wrong.any() or not p.any():
        token = int(np.argmax(wrong)) if wrong.any() else None
        value = 0.0 if token is None else float(p[token])
        of = "all tokens" if token is None else f"token {token}"
        raise NoDistributionError(
            f"probabilities must be in 0..1 and not all 0, got {value:.6g} for {of} at position "
            f"{position}; return the softmax of the logits",
            position, token, (float(value > 1), value),
        )  # fmt: skip
    return p
