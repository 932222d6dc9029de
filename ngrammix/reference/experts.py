"""Tilt, gate and guards in plain Python: each makes a distribution of a distribution."""

import math
from collections import defaultdict
from collections.abc import Sequence

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.hints import Vote

Row = tuple[object, ...]


def sigmoid(z: float) -> float:
    """1 / (1 + e**-z), to its own last digit."""
    small = math.exp(-abs(z))
    return 1 / (1 + small) if z > 0 else small / (1 + small)


class ReferenceTilt:
    """Tilt, word for word: stick-breaking over the hints."""

    RATE, SLOPE_RATE, LEAST = 0.2, 0.05, 2.0**-16
    PRIOR_SLOPE, PRIOR_VOTE = 0.8, 0.2

    def __init__(self) -> None:
        self.weights: dict[Row, float] = {}
        self.squares: dict[Row, float] = defaultdict(float)
        self.line: list[tuple[int, Row, float, list[Row], float]] = []

    def weight(self, row: Row) -> float:
        """Return the weight of `row`, as it is or as it begins."""
        priors = {"slope": self.PRIOR_SLOPE, "vote": self.PRIOR_VOTE}
        return self.weights.get(row, priors.get(str(row[0]), 0.0))

    def mix(
        self, p: Sequence[float], votes: Sequence[Vote], previous: int, entropy: float
    ) -> list[float]:
        """Return the tilted distribution; `learn` then finds what it was made of."""
        self.line = []
        if not votes:
            return list(p)
        sources: dict[int, str] = {}
        for vote in votes:
            sources.setdefault(vote.token, vote.source)
        own = max(range(len(p)), key=lambda a: p[a])
        hints = list(sources)
        left, kept = 1.0, 1.0
        mixed = list(p)
        for token in hints if own in sources else [*hints, own]:
            rest = left - p[token]
            if p[token] == 0 or rest < self.LEAST:
                continue
            left = rest
            odds = math.log(p[token] / rest)
            odds_bin = min(max(math.floor(odds) + 8, 0), 15)
            source = sources.get(token, "nobody")
            slope: Row = ("slope", hints.index(token) if token in sources else "own")
            rows: list[Row] = [
                ("token", (token * 16 + odds_bin) % 2**18),
                ("pair", self.pair(token, previous)),
                ("source", source, odds_bin, min(int(entropy), 7)),
            ]
            rows += [
                ("vote", vote.source, *vote.confidence) for vote in votes if vote.token == token
            ]
            z = self.weight(slope) * odds
            for row in rows:
                z += self.weight(row)
            mixed[token] = kept * sigmoid(z)
            kept *= sigmoid(-z)
            self.line.append((token, slope, odds, rows, sigmoid(z)))
        named = {token for token, *_ in self.line}
        return [mixed[a] if a in named else p[a] * kept / left for a in range(len(p))]

    def pair(self, token: int, previous: int) -> int:
        """Return the shared row of a hint and the token before it."""
        code = (token << 32) + previous + 1
        return (code ^ code >> 29) * 0xC4CEB9FE1A85EC53 % 2**64 >> 64 - 17

    def learn(self, token: int) -> None:
        """Move the weights of all hints in the line as far as the token that came."""
        for hint, slope, odds, rows, share in self.line:
            error = (hint == token) - share
            for row, gradient, rate in [
                (slope, error * odds, self.SLOPE_RATE), *((row, error, self.RATE) for row in rows)
            ]:  # fmt: skip
                self.squares[row] += gradient * gradient
                step = rate * gradient / math.sqrt(1 + self.squares[row])
                self.weights[row] = self.weight(row) + step
            if hint == token:
                break


class ReferenceGate:
    """Gate, word for word."""

    DISCOUNT = 0.699999988079071044921875  # 0.7 as float32
    WINDOW, LEAST, TREND_RATE = 300, 1e-6, 0.02

    def __init__(self) -> None:
        self.won: dict[Row, float] = defaultdict(lambda: 0.4)
        self.tried: dict[Row, float] = defaultdict(lambda: 2.0)
        self.trend = 0.0

    def cell(self, cache: ReferenceCache, entropy: float | None) -> Row | None:
        """Return the address of the weight, or None where there is no evidence."""
        known = [row for row in cache.evidence(None) if row.followers > 0]
        if len(known) <= 1:
            return None
        confidence = 5 * known[-1].hint_count // (known[-1].followers + 1)
        uncertainty = "unknown" if entropy is None else min(int(entropy / 2), 2)
        return len(known), confidence, uncertainty, self.trend > 0.01

    def mix(self, p: Sequence[float], q: Sequence[float], cell: Row | None) -> list[float]:
        """Return (1 - w) p + w q."""
        w = 0.0 if cell is None else self.won[cell] / self.tried[cell]
        return [(1 - w) * a + w * b for a, b in zip(p, q, strict=True)]

    def learn(self, p: float, q: float, mixed: float, cell: Row | None) -> None:
        """Learn from the three probabilities of the token that came."""
        if cell is None:
            return
        self.won[cell] += self.won[cell] / self.tried[cell] * q / mixed
        self.tried[cell] += 1
        if self.tried[cell] > self.WINDOW:
            self.won[cell] = self.won[cell] / 2 + self.LEAST
            self.tried[cell] = self.tried[cell] / 2 + 2 * self.LEAST
        surprise = min(max(math.log(q) - math.log(p), -3), 3)
        self.trend += self.TREND_RATE * (surprise - self.trend)


class ReferenceGuard:
    """The three guards, word for word, in the weights that they stand for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.log_odds = math.inf if kind == "model" else 0.0 if kind else -math.inf
        self.n_tokens = 0

    def mix(self, p: Sequence[float], inner: Sequence[float]) -> list[float]:
        """Return the guarded distribution."""
        trust, rest = sigmoid(self.log_odds), sigmoid(-self.log_odds)
        return [trust * a + rest * b for a, b in zip(p, inner, strict=True)]

    def learn(self, p: float, inner: float) -> None:
        """Learn from both probabilities of the token that came."""
        self.n_tokens += 1
        if not self.kind:
            return
        self.log_odds += math.log(p) - math.log(inner)
        if self.kind == "switch":
            share = 1 / (self.n_tokens + 1)
            trust = (1 - share) * sigmoid(self.log_odds) + share / 2
            rest = (1 - share) * sigmoid(-self.log_odds) + share / 2
            self.log_odds = math.log(trust) - math.log(rest)
