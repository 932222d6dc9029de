"""Session: what the checks of one audit share: scorer, stream, and what was found so far."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ngrammix.auditing.report import Check, Condition, Finding
from ngrammix.auditing.rounding import Rounding
from ngrammix.auditing.scorer import Clock, Scorer
from ngrammix.auditing.witness import Witness
from ngrammix.types import Flags, Floats, Tokens

BATCH = 32  # calls between two looks at the clock, at most,
SLICE = 0.01  # and as many as take this share of the budget
OF_SHORTEST = 0.1  # of the time that is left, to make a witness short
AFTER_PROOF = 0.25  # of the positions and of the time, once there is a finding


@dataclass
class Session:
    """One audit under way.

    Attributes
    ----------
    scorer : Scorer
    clock : Clock
    tokens : (N,) int64
        The stream; scores at its positions are what the audit is about.
    vocab_size : int
    n_positions : int
        Positions that each check tests, at most.
    edges : tuple of int
        Positions that are tested first, such as the starts of documents.
    seed : int
        Of all random numbers.
    rounding : Rounding
        Measured by the first checks.
    sums : list of int
        Lengths of the prefixes after which the whole vocabulary was summed.
    suspects : list of int
        Positions of the stream where two tokens have more than all of the probability.
    """

    scorer: Scorer
    clock: Clock
    tokens: Tokens
    vocab_size: int
    n_positions: int
    edges: tuple[int, ...]
    seed: int
    rounding: Rounding = field(default_factory=Rounding)
    findings: list[Finding] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    suspects: list[int] = field(default_factory=list)

    def rng(self, part: str) -> np.random.Generator:
        """The random numbers of a check, which can be repeated alone."""
        return np.random.default_rng([self.seed, *part.encode()])

    def score(self, tokens: Tokens) -> Floats:
        """Scores (n,) of one stream; a score that is no cost becomes a finding."""
        return self.score_each([tokens])[0]

    def score_each(self, streams: Sequence[Tokens]) -> list[Floats]:
        """Scores of several streams."""
        scores = self.scorer.each(streams)
        lowest = -self.rounding.between(np.zeros(1))[0]
        for tokens, nats in zip(streams, scores, strict=True):
            if not (nats >= lowest).all():  # NaN is not
                self._tell_range(tokens, nats, ~(nats >= lowest))
        return scores

    def score_until(
        self, streams: Iterable[Tokens], until: float
    ) -> Iterator[tuple[Tokens, Floats]]:
        """Streams and their scores, one after the other, until so many seconds are used."""
        waiting, n = iter(streams), 1
        while self.clock.used() < until and (batch := [*islice(waiting, n)]):
            yield from zip(batch, self.score_each(batch), strict=True)
            cost = self.clock.cost(max(map(len, batch)))
            n = int(min(BATCH, 1 + SLICE * self.clock.budget / max(cost, 1e-9)))

    def find(
        self, condition: Condition, position: int | None, witness: Witness, message: str
    ) -> None:
        """Add a finding, unless there is one of this condition and kind."""
        if not self.findings:
            self.clock.shorten(AFTER_PROOF)
            self.n_positions = max(1, int(AFTER_PROOF * self.n_positions))
        if not self.has(condition, witness.kind):
            self.findings.append(Finding(condition, position, witness, message))

    def has(self, condition: Condition, *kinds: str) -> bool:
        """Whether a condition is known to be broken, by a witness of one of these kinds."""
        return any(
            found.condition == condition and (not kinds or found.witness.kind in kinds)
            for found in self.findings
        )

    def _tell_range(self, tokens: Tokens, nats: Floats, wrong: Flags) -> None:
        """The finding of scores that are no costs."""
        t = int(np.argmax(wrong))
        is_nan = bool(np.isnan(nats[t]))
        what = "no number" if is_nan else f"{nats[t]:.6g}: a probability above 1"
        self.find(
            "C2",
            t,
            Witness("range", (0.0, float(nats[t])), "nats", shown(tokens), position=t),
            f"a score must be a cost in nats, 0 or more, got {what}, at position {t} of "
            f"{len(tokens)}",
        )


def shown(tokens: Tokens) -> tuple[int, ...]:
    """Tokens as a witness holds them."""
    return tuple(map(int, tokens))


def shortest(tokens: Tokens, keep: int, shows: Callable[[Tokens], bool], clock: Clock) -> Tokens:
    """The shortest end of a stream, of at least `keep` tokens, that still shows something.

    Lengths double from `keep` on, then the gap to the last one that failed is halved.
    """
    end = clock.until(OF_SHORTEST)
    failed, length, best = keep - 1, keep, len(tokens)
    while length < best and clock.used() < end:
        if shows(tokens[len(tokens) - length :]):
            best = length
        else:
            failed, length = length, max(2 * length, 1)
    while best - failed > 1 and clock.used() < end:
        middle = (best + failed) // 2
        if shows(tokens[len(tokens) - middle :]):
            best = middle
        else:
            failed = middle
    return tokens[len(tokens) - best :]
