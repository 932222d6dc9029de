"""Streams of batches in which a leak of a model shows, each with what it covers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np

from eval.auditing.models.windows import Windows
from eval.models.futures import few_edges, with_futures
from eval.models.probe import Variant
from eval.types import Tokens
from ngrammix.auditing.report import Check, smallest_share

Batch = tuple[Tokens, list[Variant]]

SHORT = 64  # tokens: windows that are cut at every position, on many texts
TEXTS = 64
TAIL = 16  # tokens after the last cut of a growing window
GROUP = 64  # cuts of one pass
STEP = 7  # tokens before the last one, in every fourth context of a pair
ROUND = (100, 96, 80, 60, 50, 40)  # sizes of chunks that people choose beside powers of two


@dataclass(kw_only=True)
class Stream:
    """Batches of one kind.

    Attributes
    ----------
    windows : Windows
    longest : int, tokens
        Of a window.
    positions : int
        Most rows times tokens of a pass.
    weight : float
        Share of the budget, relative to the other streams.
    seconds : float
        Spent so far.
    calls : int
        Batches so far.
    refused : str
        What the model raised for a batch of this kind; empty if it took all.
    """

    windows: Windows
    longest: int
    positions: int
    weight: float
    seconds: float = 0.0
    calls: int = 0
    refused: str = ""

    def batches(self) -> Iterator[Batch]:
        """The batches; what one covers is counted once the next is asked for."""
        raise NotImplementedError

    def check(self) -> Check:
        """What was covered."""
        raise NotImplementedError

    def futures(self, base: Tokens, edges: Sequence[int]) -> Batch:
        """The base, and a row for each edge with another future."""
        windows = self.windows
        # Each edge meets each kind of future in some batch.
        kinds = windows.kinds()
        first = self.calls % len(kinds)
        turned = [*kinds[first:], *kinds[:first]]
        rows = with_futures(base, edges, windows.vocab_size, windows.rng, turned)
        return rows, [Variant(i, 0, edge) for i, edge in enumerate(edges, 1)]

    def note(self, text: str = "") -> str:
        """The note of the check: why it ended early, or the text."""
        return f"the model took no such batch: {self.refused}" if self.refused else text


@dataclass(kw_only=True)
class Texts(Stream):
    """Short windows of many texts, cut at every position."""

    tried: int = 0

    def batches(self) -> Iterator[Batch]:
        """A window in one batch, or as many as it needs."""
        length = min(self.longest, SHORT)
        size = max(1, self.positions // length - 1)
        for _ in range(TEXTS):
            base = self.windows.draw(length)
            edges = self.windows.rng.permutation(np.arange(1, length))
            for start in range(0, len(edges), size):
                part = [int(edge) for edge in edges[start : start + size]]
                yield self.futures(base, part)
                self.tried += len(part)

    def check(self) -> Check:
        """Coverage of contexts."""
        return Check(
            "C1", f"the future changed after each token of short texts, up to {SHORT} tokens",
            self.tried, "contexts", self.calls, smallest_share(self.tried), self.note(),
        )  # fmt: skip


@dataclass(kw_only=True)
class Cuts(Stream):
    """Growing windows: each position is the last one before a change, in a window of that size."""

    reached: int = 0

    def batches(self) -> Iterator[Batch]:
        """The next cuts, as many as fit into one pass."""
        edge = 1
        while edge < self.longest:
            n = GROUP
            while n > 1 and (n + 1) * (edge + n + TAIL) > self.positions:
                n -= 1
            edges = list(range(edge, min(edge + n, self.longest)))
            base = self.windows.draw(min(self.longest, edges[-1] + TAIL))
            yield self.futures(base, edges)
            self.reached, edge = edges[-1], edges[-1] + 1

    def check(self) -> Check:
        """Coverage of positions, which is whole up to the last one."""
        is_whole = self.reached >= self.longest - 1
        share = 0.0 if is_whole else None
        note = "" if is_whole else "later positions were cut in the longest windows alone"
        name = f"the future changed at every position from 1 to {self.reached}"
        return Check("C1", name, self.reached, "positions", self.calls, share, self.note(note))


@dataclass(kw_only=True)
class Long(Stream):
    """Windows of the longest length, cut at telling places, then at random ones."""

    batch: int
    tried: int = 0

    def batches(self) -> Iterator[Batch]:
        """Windows of the shape of a run first."""
        edges = long_edges(self.longest, self.windows.rng)
        n = max(1, self.positions // self.longest - 1)
        if self.batch * self.longest <= self.positions:
            n = max(1, self.batch - 1)
        for start in range(0, len(edges), n):
            part = edges[start : start + n]
            yield self.futures(self.windows.draw(self.longest), part)
            self.tried += len(part)

    def check(self) -> Check:
        """Coverage of positions."""
        # Every other place is a random one.
        share = 0.0 if self.tried >= self.longest - 1 else smallest_share(self.tried // 2)
        return Check(
            "C1", f"the future changed in windows of {self.longest} tokens", self.tried,
            "positions", self.calls, share, self.note(),
        )  # fmt: skip


def long_edges(length: int, rng: np.random.Generator) -> list[int]:
    """Every place in a window: telling ones, of `few_edges` and ends of chunks, and random ones.

    The last two are taken in turns.
    """
    powers = few_edges(length)[: length.bit_length() + 1]
    chunks = [size * k for size in ROUND for k in (1, length // size - 1)]
    # A multiple of many sizes is the end of many chunks.
    places = np.arange(1, length)
    many = sorted(places, key=lambda n: -sum(n % d == 0 for d in range(2, 33)))[: ROUND[-1] // 4]
    telling = [int(edge) for edge in [*powers, *chunks, *map(int, many)] if 0 < edge < length]
    drawn = list(rng.permutation(places))
    pairs = [edge for pair in zip(telling, drawn, strict=False) for edge in pair]
    return list(dict.fromkeys(map(int, [*pairs, *telling, *drawn])))


@dataclass(kw_only=True)
class Pairs(Stream):
    """Each id of the vocabulary as a token, as the next one, and both together."""

    seen: set[int] = field(default_factory=set)
    tried: int = 0

    def batches(self) -> Iterator[Batch]:
        """Both kinds in turns: a large vocabulary lets neither come to its end."""
        order = self.windows.order()
        for both in zip_longest(self._after_each(order), self._each_after(order)):
            yield from filter(None, both)

    def _after_each(self, order: Tokens) -> Iterator[Batch]:
        """Two next tokens after each id."""
        rng, v, size = self.windows.rng, self.windows.vocab_size, max(1, self.positions // 4)
        for start in range(0, len(order), size):
            ids = order[start : start + size]
            first = rng.integers(v, size=len(ids))
            second = (first + rng.integers(1, v, len(ids))) % v
            rows = np.stack([ids, first, ids, second], axis=1).reshape(-1, 2)
            yield rows, [Variant(2 * i + 1, 2 * i, 1) for i in range(len(ids))]

    def _each_after(self, order: Tokens) -> Iterator[Batch]:
        """Each next token after the ids one by one."""
        for i, token in enumerate(order):
            is_longer = i % 4 == 3 and self.longest > STEP + 1
            before = self.windows.draw(STEP) if is_longer else order[:0]
            for rows, variants in every_next(np.append(before, token), order, self.positions):
                yield rows, variants
                self.seen.update(map(int, rows[:, -1]))
                self.tried += len(rows)

    def check(self) -> Check:
        """Coverage of pairs, and of next tokens."""
        n = self.windows.vocab_size
        note = f"{len(self.seen)} of {n} ids stood next"
        return Check(
            "C1", "each id put in as the next token, after one id and another", self.tried,
            "pairs of ids", self.calls, smallest_share(self.tried, n * n), self.note(note),
        )  # fmt: skip


@dataclass(kw_only=True)
class Places(Stream):
    """Each id of the vocabulary as the next token after each position."""

    tried: int = 0

    def batches(self) -> Iterator[Batch]:
        """Position by position, from the second on."""
        order = self.windows.order()
        for length in range(2, min(self.longest, SHORT)):
            for rows, variants in every_next(self.windows.draw(length), order, self.positions):
                yield rows, variants
                self.tried += len(rows)

    def check(self) -> Check:
        """Coverage of positions and ids."""
        total = self.windows.vocab_size * max(1, min(self.longest, SHORT) - 2)
        return Check(
            "C1", f"each id put in as the next token, at each position below {SHORT}", self.tried,
            "positions and ids", self.calls, smallest_share(self.tried, total), self.note(),
        )  # fmt: skip


def every_next(context: Tokens, order: Tokens, positions: int) -> Iterator[Batch]:
    """The context followed by each id; the first row of a batch is compared with the others."""
    size = max(1, positions // (len(context) + 1) - 1)
    for start in range(0, len(order), size):
        ids = np.append(order[start - 1], order[start : start + size])
        rows = np.column_stack([np.tile(context, (len(ids), 1)), ids])
        yield rows, [Variant(i, 0, len(context)) for i in range(1, len(ids))]
