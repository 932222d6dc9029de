"""The same cache and mixer in slow, plain Python: the specification, and the judge in the tests.

It knows no kernel, table or index: an n-gram's count lies in a dict of dicts, a probability is a
loop. Where this file and the fast one disagree, this one is right.
"""

import math
from collections.abc import Iterable, Sequence
from struct import pack, unpack
from typing import NamedTuple

Context = tuple[int, ...]


class Known(NamedTuple):
    """What one context knows before a token comes; the fields of `Evidence`."""

    followers: int
    distinct: int
    target_count: int
    hint: int
    hint_count: int
    age: int
    discount: float


class ReferenceCache:
    """NgramCache, word for word."""

    SHORTEST, REPEATED = 8, 64  # times as long such n-grams are kept as the others

    def __init__(self, order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self.position = 0
        self.history: list[int] = []  # since the boundary
        self.counts: dict[Context, dict[int, int]] = {}  # context -> token -> count
        self.hints: dict[Context, int] = {}  # context -> its most frequent follower
        self.seen: dict[Context, int] = {}  # n-gram -> tokens learned when it last ended
        self.repeated: set[Context] = set()  # n-grams that ended at two places
        self.redundant: set[Context] = set()  # n-grams whose suffix was as new as they were
        self.seen_before: dict[int, int] = {}  # k -> the same of the last k tokens, once earlier

    def contexts(self, history: Sequence[int]) -> list[Context]:
        """Return the last k tokens for k = 0, 1, ... as far as history and order reach."""
        return [
            tuple(history[len(history) - k :]) for k in range(min(self.order, len(history) + 1))
        ]

    def discount(self, k: int) -> float:
        """Return the absolute discount of order k + 1, rounded to float32."""
        counts = [c for a, row in self.counts.items() if len(a) == k for c in row.values()]
        n1, n2 = counts.count(1), counts.count(2)
        (rounded,) = unpack("f", pack("f", (n1 + 3) / (n1 + 2 * n2 + 4)))
        return float(rounded)

    def evidence(self, token: int | None) -> list[Known]:
        """Return what each context of k = 0..order - 1 tokens knows before `token`."""
        rows = []
        contexts = self.contexts(self.history)
        for k in range(self.order):
            row = self.counts.get(contexts[k], {}) if k < len(contexts) else {}
            hint = self.hints.get(contexts[k], 0) if row else 0
            target_count = 0 if token is None else row.get(token, 0)
            last = self.seen_before.get(k) if k < len(contexts) else None
            age = 0 if last is None else self.position - last
            n, u = sum(row.values()), len(row)
            rows.append(Known(n, u, target_count, hint, row.get(hint, 0), age, self.discount(k)))
        return rows

    def count(self, context: Sequence[int], token: int) -> None:
        """Count `token` after the longest context, then after each shorter one while it is new."""
        for a in reversed(self.contexts(context)):
            row = self.counts.setdefault(a, {})
            row[token] = row.get(token, 0) + 1
            if row[token] >= row.get(self.hints.get(a, token), 0):
                self.hints[a] = token
            if row[token] > 1:
                break
        self.position += 1
        self.see(context, token, self.position)

    def update(self, context: Sequence[int], token: int) -> None:
        """Count `token` after a context that ends where the stream has arrived."""
        context = context[len(context) - min(len(context), self.order - 1) :]
        for i, last in enumerate(context):
            self.see(context[:i], last, self.position - (len(context) - 1 - i))
        self.count(context, token)

    def see(self, context: Sequence[int], token: int, now: int) -> None:
        """Note that the n-grams of `context` and `token` ended where `now` tokens were learned."""
        suffix_is_new = False
        for a in self.contexts(context):
            gram = (*a, token)
            if gram not in self.seen:
                self.seen[gram] = now
                if suffix_is_new:
                    self.redundant.add(gram)
                suffix_is_new = True
                continue
            suffix_is_new = False
            if self.seen[gram] != now:
                self.repeated.add(gram)
            self.seen[gram] = max(self.seen[gram], now)

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        grams = [(*a, token) for a in self.contexts(self.history)]
        self.seen_before = {len(gram): self.seen[gram] for gram in grams if gram in self.seen}
        self.count(self.history, token)
        self.history.append(token)

    def boundary(self) -> None:
        """Begin a new document."""
        self.history = []
        self.seen_before = {}

    def staleness(self, gram: Context) -> int:
        """Return what decides which n-grams are forgotten: those with the largest."""
        age = self.position + len(gram) - self.seen[gram]  # since its first token
        if gram in self.repeated:
            return age // self.REPEATED
        return age if gram in self.redundant else age // self.SHORTEST

    def forget(self, n_kept: int) -> None:
        """Forget all but the `n_kept` least stale n-grams, by levels; halve the others' counts."""
        width = (self.position + 96) // 4096 + 1
        levels = {gram: self.staleness(gram) // width for gram in self.seen}
        cutoff = 0
        while cutoff < 4096 and sum(level <= cutoff for level in levels.values()) <= n_kept:
            cutoff += 1
        kept: set[Context] = {()}
        for gram in sorted(levels, key=len):
            if levels[gram] < cutoff and gram[:-1] in kept:
                kept.add(gram)
        self.seen = {gram: last for gram, last in self.seen.items() if gram in kept}
        self.repeated &= kept
        self.redundant &= kept
        for a, row in list(self.counts.items()):
            self.counts[a] = {x: c - c // 2 for x, c in row.items() if (*a, x) in kept}
            if not self.counts[a]:
                del self.counts[a]
            elif (*a, self.hints[a]) not in kept:  # the next: the largest count, then the latest
                self.hints[a] = max(
                    self.counts[a], key=lambda x: (self.counts[a][x], self.seen[(*a, x)])
                )
        self.hints = {a: hint for a, hint in self.hints.items() if a in self.counts}
        known = [a in kept for a in self.contexts(self.history)]
        if not all(known):
            self.history = self.history[len(self.history) - known.index(False) + 1 :]

    def distribution(self, context: Sequence[int], discount: float | None = None) -> list[float]:
        """Return the probability of every token after `context`."""
        q = [1 / self.vocab_size] * self.vocab_size
        for k, a in enumerate(self.contexts(context)):
            row = self.counts.get(a)
            if not row:
                break
            d = self.discount(k) if discount is None else discount
            n, u = sum(row.values()), len(row)
            q = [(max(row.get(x, 0) - d, 0) + d * u * q[x]) / n for x in range(self.vocab_size)]
        return q


class ReferenceMatch:
    """MatchModel, word for word."""

    RADIX, MURMUR = 6364136223846793005, 0xC4CEB9FE1A85EC53
    LONG, MOST_COMPARED = 32, 1024

    def __init__(self, min_length: int, table_bits: int, window: int) -> None:
        self.min_length = min_length
        self.table_bits = table_bits
        self.window = window
        self.tokens: list[int] = []
        self.start = 0  # of the document
        self.places: dict[int, int] = {}  # bucket -> where the token after that context stands
        self.pointer, self.length = 0, 0

    def bucket(self) -> int:
        """Return the slot of the last `min_length` tokens."""
        code = 0
        for token in self.tokens[-self.min_length :]:
            code = (code * self.RADIX + token + 1) % 2**64
        return (code ^ code >> 32) * self.MURMUR % 2**64 >> 64 - self.table_bits

    def match(self) -> tuple[int, int, int]:
        """Return (length, hint, distance) before the next token."""
        if self.length == 0:
            return 0, 0, 0
        return self.length, self.tokens[self.pointer], len(self.tokens) - self.pointer

    def compare(self, place: int) -> int:
        """Return how many tokens before `place` are as those before the next one."""
        here = len(self.tokens)
        reach = min(place - max(here - self.window, 0), here - self.start, self.MOST_COMPARED)
        length = 0
        while length < reach and self.tokens[place - 1 - length] == self.tokens[here - 1 - length]:
            length += 1
        return length

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        if self.length > 0:
            self.length = self.length + 1 if self.tokens[self.pointer] == token else 0
            self.pointer += 1
        self.tokens.append(token)
        if len(self.tokens) - self.start < self.min_length:
            return
        place = self.places.get(self.bucket(), 0)
        self.places[self.bucket()] = len(self.tokens)
        if place > 0 and self.length < self.LONG and not (self.length and place == self.pointer):
            length = self.compare(place)
            if length >= max(self.min_length, self.length):
                self.pointer, self.length = place, length

    def boundary(self) -> None:
        """Begin a new document."""
        self.start = len(self.tokens)
        self.length = 0


class ReferenceMixer:
    """Mixer, word for word: whole distributions, mixed before the token is looked at."""

    CONFIDENCE_BINS, ENTROPY_BINS = 5, 3
    PRIOR_WEIGHT, PRIOR_TRIALS = 0.2, 2.0
    DISCOUNT = unpack("f", pack("f", 0.6))[0]

    def __init__(self, vocab_size: int, order: int) -> None:
        self.cache = ReferenceCache(order, vocab_size)
        self.won: dict[tuple[int, int, int], float] = {}
        self.tried: dict[tuple[int, int, int], float] = {}
        self.log_odds = 0.0  # of the model against the gate
        self.nats = 0.0
        self.nats_model = 0.0

    def cell(self, p: Sequence[float]) -> tuple[int, int, int] | None:
        """Return the address of the gate's weight, or None where there is no evidence."""
        known = [row for row in self.cache.evidence(None) if row.followers > 0]
        if len(known) <= 1:
            return None
        entropy = -sum(x * math.log(x) for x in p if x > 0)
        confidence = self.CONFIDENCE_BINS * known[-1].hint_count // (known[-1].followers + 1)
        return len(known) - 1, confidence, min(int(entropy / 2), self.ENTROPY_BINS - 1)

    def weight(self, cell: tuple[int, int, int]) -> float:
        """Return the cache's weight in `cell` now."""
        won = self.won.get(cell, self.PRIOR_WEIGHT * self.PRIOR_TRIALS)
        return won / self.tried.get(cell, self.PRIOR_TRIALS)

    def mixtures(self, logits: Sequence[float]) -> tuple[list[float], list[float], list[float]]:
        """Return the distributions (model, gated, guarded) of the next token."""
        largest = max(logits)
        weights = [math.exp(z - largest) for z in logits]
        p = [w / sum(weights) for w in weights]
        cell = self.cell(p)
        if cell is None:
            return p, p, p
        q = self.cache.distribution(self.cache.history, self.DISCOUNT)
        w = self.weight(cell)
        gated = [(1 - w) * a + w * b for a, b in zip(p, q, strict=True)]
        odds = math.exp(min(max(self.log_odds, -700), 700))
        guarded = [(odds * a + b) / (odds + 1) for a, b in zip(p, gated, strict=True)]
        return p, gated, guarded

    def score(self, logits: Sequence[float], token: int) -> float:
        """Price the next token in nats, then learn it."""
        p, gated, guarded = self.mixtures(logits)
        cell = self.cell(p)
        if cell is not None:
            q = self.cache.distribution(self.cache.history, self.DISCOUNT)
            won = self.won.get(cell, self.PRIOR_WEIGHT * self.PRIOR_TRIALS)
            self.won[cell] = won + self.weight(cell) * q[token] / gated[token]
            self.tried[cell] = self.tried.get(cell, self.PRIOR_TRIALS) + 1
        self.log_odds += math.log(p[token] / gated[token])
        self.nats_model -= math.log(p[token])
        self.nats -= math.log(guarded[token])
        self.cache.learn(token)
        return -math.log(guarded[token])

    def learn(self, tokens: Iterable[int]) -> None:
        """Learn tokens that are not scored."""
        for token in tokens:
            self.cache.learn(token)

    @property
    def regret_bits(self) -> float:
        """Bits spent minus the model's own."""
        return (self.nats - self.nats_model) / math.log(2)
