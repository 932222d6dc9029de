"""Mixer in plain Python: whole distributions are mixed before the token is read."""

import math
from collections.abc import Iterable, Sequence

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.experts import ReferenceGate, ReferenceGuard, ReferenceTilt
from ngrammix.reference.hints import ReferenceHints


class ReferenceMixer:
    """`Mixer`, one token at a time."""

    def __init__(self, vocab_size: int, order: int, experts: str = "tilt+gate+guard") -> None:
        chosen = experts.split("+")
        self.cache = ReferenceCache(vocab_size, order)
        self.hints = ReferenceHints(order)
        self.tilt = ReferenceTilt() if "tilt" in chosen else None
        self.gate = ReferenceGate() if "gate" in chosen else None
        self.guard = ReferenceGuard(chosen[-1] if chosen[-1] in ("guard", "switch") else "")
        self.knows_entropy = True  # False: `Mixer.score_nll` without entropies
        self.nats = 0.0
        self.nats_model = 0.0

    def mixtures(self, logits: Sequence[float]) -> list[list[float]]:
        """Return the distributions (model, tilted, cache, gated, guarded) of the next token."""
        p = softmax(logits)
        q = self.cache.distribution(self.cache.history, ReferenceGate.DISCOUNT)
        votes = self.hints.votes(self.cache)
        if not votes:
            return [p, p, q, p, p]
        tilted = gated = p
        if self.tilt is not None:
            tilted = gated = self.tilt.mix(p, votes, self.hints.match.tokens[-1], entropy(p))
        if self.gate is not None:
            gated = self.gate.mix(tilted, q, self.cell(p))
        return [p, tilted, q, gated, self.guard.mix(p, gated)]

    def score(self, logits: Sequence[float], token: int) -> float:
        """Return the cost of the next token in nats, then learn the token."""
        p, tilted, q, gated, guarded = (mixture[token] for mixture in self.mixtures(logits))
        if self.gate is not None:
            self.gate.learn(tilted, q, gated, self.cell(softmax(logits)))
        if self.tilt is not None and self.hints.votes(self.cache):
            self.tilt.learn(token)
        self.guard.learn(p, gated)
        self.nats_model -= math.log(p)
        self.nats -= math.log(guarded)
        self.learn([token])
        return -math.log(guarded)

    def cell(self, p: Sequence[float]) -> tuple[object, ...] | None:
        """Return the gate's cell of the next position."""
        gate = self.gate or ReferenceGate()
        return gate.cell(self.cache, entropy(p) if self.knows_entropy else None)

    def learn(self, tokens: Iterable[int]) -> None:
        """Learn tokens without scoring them."""
        for token in tokens:
            self.cache.learn(token)
            self.hints.learn(token)

    def boundary(self) -> None:
        """Start a new document."""
        self.cache.boundary()
        self.hints.match.boundary()

    @property
    def regret_bits(self) -> float:
        """Bits of the scored tokens minus the model's own bits."""
        return (self.nats - self.nats_model) / math.log(2)


def softmax(logits: Sequence[float]) -> list[float]:
    """Return the softmax of one row of logits."""
    weights = [math.exp(z - max(logits)) for z in logits]
    return [w / sum(weights) for w in weights]


def entropy(p: Sequence[float]) -> float:
    """Return the entropy of a distribution in nats."""
    return -sum(a * math.log(a) for a in p if a > 0)
