"""NgramCache in plain Python: the counts are a dict of dicts."""

from collections.abc import Sequence
from struct import pack, unpack
from typing import NamedTuple

Context = tuple[int, ...]
Ngram = tuple[int, ...]


class ContextEvidence(NamedTuple):
    """Counts of one context before a token comes; the fields of `Evidence`."""

    followers: int
    n_distinct: int
    target_count: int
    hint: int
    hint_count: int
    age: int
    discount: float


class ReferenceCache:
    """The specification of `NgramCache`."""

    RETENTION = 8  # how many times as long an n-gram is kept that occurred more than once

    def __init__(self, vocab_size: int, order: int) -> None:
        self.vocab_size = vocab_size
        self.order = order
        self.position = 0
        self.history: list[int] = []  # tokens since the boundary
        self.counts: dict[Context, dict[int, int]] = {}  # context -> token -> count
        self.hints: dict[Context, int] = {}  # context -> its most frequent follower
        self.last_seen: dict[Ngram, int] = {}  # n-gram -> position after its last occurrence
        self.opened: set[Ngram] = set()  # n-grams that occurred more than once, or in an update
        # k -> last_seen of the last k tokens of the stream, before their occurrence there.
        self.context_last_seen: dict[int, int] = {}

    def contexts(self, history: Sequence[int]) -> list[Context]:
        """Return the last k tokens for k = 0, 1, ..., order - 1, as far as history reaches."""
        return [
            tuple(history[len(history) - k :]) for k in range(min(self.order, len(history) + 1))
        ]

    def discount(self, k: int) -> float:
        """Return the absolute discount of order k + 1, rounded to float32."""
        counts = [c for a, row in self.counts.items() if len(a) == k for c in row.values()]
        n1, n2 = counts.count(1), counts.count(2)
        (rounded,) = unpack("f", pack("f", (n1 + 3) / (n1 + 2 * n2 + 4)))
        return float(rounded)

    def evidence(self, token: int | None) -> list[ContextEvidence]:
        """Return the evidence of each context of k = 0..order - 1 tokens before `token`."""
        rows = []
        contexts = self.contexts(self.history)
        for k in range(self.order):
            row = self.counts.get(contexts[k], {}) if k < len(contexts) else {}
            hint = self.hints.get(contexts[k], 0) if row else 0
            target_count = 0 if token is None else row.get(token, 0)
            last_seen = self.context_last_seen.get(k) if k < len(contexts) else None
            age = 0 if last_seen is None else self.position - last_seen
            n, u = sum(row.values()), len(row)
            rows.append(
                ContextEvidence(n, u, target_count, hint, row.get(hint, 0), age, self.discount(k))
            )
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

    def update(self, context: Sequence[int], token: int) -> None:
        """Count `token` after a context, as if both had just preceded the position."""
        context = context[len(context) - min(len(context), self.order - 1) :]
        for i, last in enumerate((*context, token)):
            for ngram in self.record(context[:i], last, self.position - len(context) + i):
                self.opened.add(ngram)
        self.count(context, token)

    def record(self, context: Sequence[int], token: int, now: int) -> list[Ngram]:
        """Record that each n-gram that ends with `context` and `token` occurred before `now`."""
        ngrams = [(*a, token) for a in self.contexts(context)]
        for ngram in ngrams:
            if ngram in self.last_seen:
                self.opened.add(ngram)
            self.last_seen[ngram] = max(self.last_seen.get(ngram, now), now)
        return ngrams

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        ngrams = [(*a, token) for a in self.contexts(self.history)]
        self.context_last_seen = {
            len(ngram): self.last_seen[ngram] for ngram in ngrams if ngram in self.last_seen
        }
        self.count(self.history, token)
        self.position += 1
        self.record(self.history, token, self.position)
        self.history.append(token)

    def boundary(self) -> None:
        """Begin a new document."""
        self.history = []
        self.context_last_seen = {}

    def rows(self) -> list[Ngram]:
        """Return the n-grams that have a row in the tables of `NgramCache`."""
        return [ngram for ngram in self.last_seen if ngram[1:] in self.opened or len(ngram) == 1]

    def evict(self, cutoff: int) -> None:
        """Forget n-grams whose last occurrence began `cutoff` tokens ago or earlier; halve counts.

        n-grams that were opened are kept RETENTION times as long.
        """
        ages = {g: self.position - 1 - (t - len(g)) for g, t in self.last_seen.items()}
        stored = {g for g, age in ages.items() if age // self.retention(g) < cutoff}
        self.last_seen = {ngram: t for ngram, t in self.last_seen.items() if ngram in stored}
        self.opened &= stored
        for a, row in list(self.counts.items()):
            self.counts[a] = {x: c - c // 2 for x, c in row.items() if (*a, x) in stored}
            if not self.counts[a]:
                del self.counts[a]
            elif (*a, self.hints[a]) not in stored:
                self.hints[a] = max(self.counts[a], key=lambda x: self.hint_key(a, x))
        self.hints = {a: hint for a, hint in self.hints.items() if a in self.counts}
        self.history = self.history[len(self.history) - min(len(self.history), cutoff) :]

    def retention(self, ngram: Ngram) -> int:
        """Return how many times as long as others the n-gram is kept."""
        return self.RETENTION if ngram in self.opened else 1

    def hint_key(self, context: Context, token: int) -> tuple[int, bool, int]:
        """Return the key whose largest follower becomes the hint of a context that lost its own.

        The largest count; a tie goes to n-grams that were opened, then to the one seen last.
        """
        ngram = (*context, token)
        return self.counts[context][token], ngram in self.opened, self.last_seen[ngram]

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
