"""NgramCache in plain Python: an n-gram's count lies in a dict of dicts."""

from collections.abc import Sequence
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
