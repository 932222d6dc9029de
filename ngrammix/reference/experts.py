"""Tilt, gate and guards in plain Python: each maps a distribution to a distribution."""

import math
from collections import defaultdict
from collections.abc import Sequence

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.hints import Vote

Row = tuple[object, ...]


def sigmoid(z: float) -> float:
    """1 / (1 + e**-z), to full relative precision."""
    small = math.exp(-abs(z))
    return 1 / (1 + small) if z > 0 else small / (1 + small)


class ReferenceTilt:
    """`Tilt`: stick-breaking over the hints of a position."""

    RATE, SLOPE_RATE, MIN_MASS = 0.2, 0.05, 2.0**-16
    PRIOR_SLOPE, PRIOR_VOTE = 0.8, 0.2

    def __init__(self) -> None:
        self.weights: dict[Row, float] = {}
        self.squares: dict[Row, float] = defaultdict(float)
        self.chain: list[tuple[int, Row, float, list[Row], float]] = []

    def weight(self, row: Row) -> float:
        """Return the weight of `row`, or its prior."""
        priors = {"slope": self.PRIOR_SLOPE, "vote": self.PRIOR_VOTE}
        return self.weights.get(row, priors.get(str(row[0]), 0.0))

    def mix(
        self, p: Sequence[float], votes: Sequence[Vote], previous: int, entropy: float
    ) -> list[float]:
        """Return the tilted distribution; `learn` then updates the weights that it used."""
        self.chain = []
        if not votes:
            return list(p)
        sources: dict[int, str] = {}
        for vote in votes:
            sources.setdefault(vote.token, vote.source)
        top = max(range(len(p)), key=lambda a: p[a])
        hints = list(sources)
        mass, tilted_mass = 1.0, 1.0  # beside the hints so far, under p and under the result
        mixed = list(p)
        for token in hints if top in sources else [*hints, top]:
            rest = mass - p[token]
            if p[token] == 0 or rest < self.MIN_MASS:
                continue
            mass = rest
            log_odds = math.log(p[token] / rest)
            odds_bin = min(max(math.floor(log_odds) + 8, 0), 15)
            source = sources.get(token, "model")
            slope: Row = ("slope", hints.index(token) if token in sources else "model")
            rows: list[Row] = [
                ("token", (token * 16 + odds_bin) % 2**18),
                ("pair", self.pair(token, previous)),
                ("source", source, odds_bin, min(int(entropy), 7)),
            ]
            rows += [
                ("vote", vote.source, *vote.confidence) for vote in votes if vote.token == token
            ]
            z = self.weight(slope) * log_odds
            for row in rows:
                z += self.weight(row)
            mixed[token] = tilted_mass * sigmoid(z)
            tilted_mass *= sigmoid(-z)
            self.chain.append((token, slope, log_odds, rows, sigmoid(z)))
        links = {token for token, *_ in self.chain}
        return [mixed[a] if a in links else p[a] * tilted_mass / mass for a in range(len(p))]

    def pair(self, token: int, previous: int) -> int:
        """Return the hashed row of a hint and the token before it."""
        code = (token << 32) + previous + 1
        return (code ^ code >> 29) * 0xC4CEB9FE1A85EC53 % 2**64 >> 64 - 17

    def learn(self, token: int) -> None:
        """Update the weights of the chain, up to the token that came."""
        for hint, slope, log_odds, rows, share in self.chain:
            error = (hint == token) - share
            steps = [(row, error, self.RATE) for row in rows]
            for row, gradient, rate in [(slope, error * log_odds, self.SLOPE_RATE), *steps]:
                self.squares[row] += gradient * gradient
                step = rate * gradient / math.sqrt(1 + self.squares[row])
                self.weights[row] = self.weight(row) + step
            if hint == token:
                break


class ReferenceGate:
    """`Gate`: a linear mixture with a learned weight in each cell."""

    DISCOUNT = 0.699999988079071044921875  # 0.7 as float32
    WINDOW, MIN_TRIALS = 300, 1e-6
    TREND_RATE, TREND_STEP, TREND_THRESHOLD = 0.02, 3, 0.01

    def __init__(self) -> None:
        self.posterior_sum: dict[Row, float] = defaultdict(lambda: 0.4)
        self.n_trials: dict[Row, float] = defaultdict(lambda: 2.0)
        self.trend = 0.0

    def cell(self, cache: ReferenceCache, entropy: float | None) -> Row | None:
        """Return the cell of the next position, or None where no context was seen before."""
        seen = [row for row in cache.evidence(None) if row.followers > 0]
        if len(seen) <= 1:
            return None
        confidence = 5 * seen[-1].hint_count // (seen[-1].followers + 1)
        entropy_bin = "unknown" if entropy is None else min(int(entropy / 2), 2)
        return len(seen), confidence, entropy_bin, self.trend > self.TREND_THRESHOLD

    def mix(self, p: Sequence[float], q: Sequence[float], cell: Row | None) -> list[float]:
        """Return (1 - w) p + w q."""
        w = 0.0 if cell is None else self.posterior_sum[cell] / self.n_trials[cell]
        return [(1 - w) * a + w * b for a, b in zip(p, q, strict=True)]

    def learn(self, p: float, q: float, mixed: float, cell: Row | None) -> None:
        """Learn from the probabilities of the token that came."""
        if cell is None:
            return
        self.posterior_sum[cell] += self.posterior_sum[cell] / self.n_trials[cell] * q / mixed
        self.n_trials[cell] += 1
        if self.n_trials[cell] > self.WINDOW:
            self.posterior_sum[cell] = self.posterior_sum[cell] / 2 + self.MIN_TRIALS
            self.n_trials[cell] = self.n_trials[cell] / 2 + 2 * self.MIN_TRIALS
        surprise = min(max(math.log(q) - math.log(p), -self.TREND_STEP), self.TREND_STEP)
        self.trend += self.TREND_RATE * (surprise - self.trend)


class ReferenceGuard:
    """`Guard`, `SwitchingGuard` and `Unguarded` (kind "guard", "switch" and "")."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.log_odds = 0.0 if kind else -math.inf
        self.n_tokens = 0

    def mix(self, p: Sequence[float], inner: Sequence[float]) -> list[float]:
        """Return the guarded distribution."""
        w = sigmoid(self.log_odds), sigmoid(-self.log_odds)
        return [w[0] * a + w[1] * b for a, b in zip(p, inner, strict=True)]

    def learn(self, p: float, inner: float) -> None:
        """Learn from the two probabilities of the token that came."""
        self.n_tokens += 1
        if not self.kind:
            return
        self.log_odds += math.log(p) - math.log(inner)
        if self.kind == "switch":
            share = 1 / (self.n_tokens + 1)
            weight_model = (1 - share) * sigmoid(self.log_odds) + share / 2
            weight_inner = (1 - share) * sigmoid(-self.log_odds) + share / 2
            self.log_odds = math.log(weight_model) - math.log(weight_inner)
