"""Probe: forward passes over changed windows, and what they show about a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from eval.models.futures import QUICK, Kinds, all_edges, few_edges, window, with_futures
from eval.models.movement import as_tensor, is_beyond, movement, recorded, spread
from eval.types import Floats, Tokens

Logits = Callable[[Tokens], Any]  # tokens (B, T) int64 -> logits (B, T, V)

ROUNDING = float(np.finfo(np.float32).eps) ** 0.5  # half of the digits, as a share of the spread
NOISE = 4.0  # times the largest noise that was seen
ALONE = 3  # futures, where each needs a pass of its own
WORST = 4  # futures that are read twice
UNITS = 2.0  # of the coarsest dtype: sums over the whole window, as of an FFT, flip the last bit


@dataclass(frozen=True)
class Leak:
    """Proof that the logits at a position depend on more than the tokens up to it.

    Attributes
    ----------
    kind : str
        What they depend on: the ``future``; the other ``rows`` of the batch; the ``length`` of the
        window; chance, so that they differ when the same batch is read again: ``repeat``.
    position : int
        Index in the window of the position whose logits moved most.
    length : int, tokens
        T of the window.
    edge : int
        Index of the first token that was changed. For ``length`` the T of the shorter window; for
        ``rows`` and ``repeat`` 0.
    nats : float
        Largest change of a log-probability at the position.
    windows : tuple of (T,) int64
        The window, and the one that shows it: with the other future, the row beside it, or the
        shorter one. For ``repeat`` the window alone.
    """

    kind: str
    position: int
    length: int
    edge: int
    nats: float
    windows: tuple[Tokens, ...] = field(default=(), compare=False, repr=False)


class Variant(NamedTuple):
    """A row of a batch that is alike another one, `of`, up to its edge."""

    row: int
    of: int
    edge: int


@dataclass(frozen=True, eq=False)
class Pass:
    """What one forward pass shows.

    Attributes
    ----------
    rows : (R, T) int64
        Windows. Row 0 is the base.
    variants : sequence of Variant
        Rows that must have the same logits as another one up to an edge E.
    moves : arrays (E,) of float64, nats
        How far the logits of each variant are from those of the other row, before its edge.
    known : dict
        Logits (T, V) of the base and of the rows that variants are compared with.
    """

    rows: Tokens
    variants: Sequence[Variant]
    moves: Sequence[Floats]
    known: dict[int, Any]

    @property
    def largest(self) -> float:
        """The largest of the moves; 0 if there are none."""
        return max(map(farthest, self.moves), default=0.0)

    @property
    def spread(self) -> float:
        """Standard deviation of the logits of a position, over all rows that are known."""
        return float(np.sqrt(np.mean([spread(logits) ** 2 for logits in self.known.values()])))


class Probe:
    """Forward passes over windows of one text; a method for each kind of window.

    Parameters
    ----------
    logits : callable
        From tokens (B, T) int64 to logits (B, T, V).
    text : (N,) int64
        Tokens of the windows.
    vocab_size : int >= 2
        Number of ids that tokens are changed to.
    seed : int
        Of the changed tokens.
    kinds : sequence of callables
        What tokens are changed to, in turns; see `with_futures`.

    Attributes
    ----------
    is_certain : bool
        Whether the leak that was found cannot be rounding noise: the logits are the same bits
        whenever the tokens are.
    """

    def __init__(
        self, logits: Logits, text: Tokens, vocab_size: int, seed: int, kinds: Kinds = QUICK
    ) -> None:
        self._logits, self._text, self._vocab_size = logits, text, vocab_size
        self._rng, self._kinds = np.random.default_rng(seed), kinds
        self.is_certain = True
        self._eps = 0.0  # of the coarsest dtype, once it is known

    def look_everywhere(self, length: int) -> Leak | None:
        """A leak at any position of a short window, from other rows, or from padding."""
        first, second = (self._read(length, edges) for edges in all_edges(length))
        return self._judge(first, second) or self._cut(first)

    def look_at_few(self, length: int, n_rows: int, *, is_first: bool) -> Leak | None:
        """A leak across few places of a long window; if it is the first, from other rows too."""
        edges = few_edges(length) or [0]
        n = min(n_rows - 1, len(edges))
        first = self._read(length, edges[:n])
        second = self._read(length, [0, *edges[n:], *edges][:n]) if is_first else None
        return self._judge(first, second)

    def look_at(self, rows: Tokens, variants: Sequence[Variant]) -> Leak | None:
        """A leak in a batch of one's own: rows (R, T) of which variants are alike up to an edge."""
        return self._judge(self._pass(rows, variants), None)

    def look_alone(self, length: int) -> Leak | None:
        """A leak across few places of a window, with one row in each pass."""
        edges = few_edges(length)[:ALONE]
        rows = self._rows(length, edges)
        base = as_tensor(self._logits(rows[:1]))[0].clone()
        moves = [
            movement(as_tensor(self._logits(row[None]))[0, :edge], base[:edge])
            for row, edge in zip(rows[1:], edges, strict=True)
        ]
        if max(map(farthest, moves), default=0.0) <= ROUNDING * spread(base):
            return None
        again, bound = self._repeat(rows[:1], base)
        if is_beyond(again, bound):
            return leak("repeat", again, rows[:1])
        self.is_certain = False  # the passes differ in more than the future: see `is_beyond`
        found = ((i, each) for i, each in enumerate(moves, 1) if is_beyond(each, bound))
        return next((leak("future", each, rows[[0, i]], len(each)) for i, each in found), None)

    def look_again(self, rows: Tokens) -> Leak | None:
        """A leak if rows (R, T) have other logits in a second pass, or after other rows."""
        first, eps = recorded(lambda: self._logits(rows))
        first = first.clone()
        bound = max(ROUNDING, eps**0.5) * spread(first.flatten(0, 1))
        for _ in range(2):
            again = as_tensor(self._logits(rows))
            for row, a, b in zip(rows, again, first, strict=True):
                if is_beyond(moved := movement(a, b), bound):
                    return leak("repeat", moved, row[None])
            self._logits(np.roll(rows[::-1], 1, axis=1))
        return None

    def _rows(self, length: int, edges: Sequence[int]) -> Tokens:
        base = window(self._text, length)
        return with_futures(base, edges, self._vocab_size, self._rng, self._kinds)

    def _read(self, length: int, edges: Sequence[int]) -> Pass:
        variants = [Variant(i, 0, edge) for i, edge in enumerate(edges, 1)]
        return self._pass(self._rows(length, edges), variants)

    def _pass(self, rows: Tokens, variants: Sequence[Variant]) -> Pass:
        logits = as_tensor(self._logits(rows))
        moves = [movement(logits[row, :edge], logits[of, :edge]) for row, of, edge in variants]
        # Copies: a model may write its next logits to the same place.
        known = {of: logits[of].clone() for of in {0, *(variant.of for variant in variants)}}
        return Pass(rows, variants, moves, known)

    def _judge(self, first: Pass, second: Pass | None) -> Leak | None:
        """The leak that these passes show, if it is more than rounding."""
        passes = [first] if second is None else [first, second]
        rows, base = first.rows, first.known[0]
        beside = np.zeros(len(base)) if second is None else movement(second.known[0], base)
        largest = max(beside.max(), *(each.largest for each in passes))
        if largest == 0 or largest <= (limit := ROUNDING * first.spread):
            return None
        again, bound = self._repeat(rows, base, first.spread)
        if is_beyond(again, bound):
            return leak("repeat", again, rows[:1])
        alike = self._differences(rows)
        if is_beyond(alike, bound):
            return leak("rows", alike.max(axis=0), rows[[0, 0]])
        noise = max(farthest(again), farthest(alike))
        if noise > 0:
            self.is_certain = False
            limit = max(bound, NOISE * noise)
        for each in passes:
            for i in sorted(range(len(each.moves)), key=lambda i: -farthest(each.moves[i]))[:WORST]:
                moved = np.minimum(each.moves[i], self._swap(each, each.variants[i]))
                if farthest(moved) > limit:
                    row, of, edge = each.variants[i]
                    return leak("future", moved, each.rows[[of, row]], edge)
        if second is not None and is_beyond(beside, bound):
            self.is_certain = False  # experts that work on other tokens round in other ways
            return leak("rows", beside, np.stack([rows[0], second.rows[-1]]))
        return None

    def _repeat(self, rows: Tokens, base: Any, scale: float | None = None) -> tuple[Floats, float]:
        """How far the base moves when the same rows are read again, and a bound for rounding."""
        logits, self._eps = recorded(lambda: self._logits(rows))
        scale = spread(base) if scale is None else scale
        return movement(logits[0], base), max(ROUNDING, self._eps**0.5) * scale

    def _differences(self, rows: Tokens) -> Floats:
        """(R - 1, T) nats: how far rows differ from row 0 in a batch where all hold the base."""
        logits = as_tensor(self._logits(np.tile(rows[0], (len(rows), 1))))
        return np.stack([movement(logits[i], logits[0]) for i in range(1, len(rows))])

    def _swap(self, each: Pass, variant: Variant) -> Floats:
        """How far a variant is from its other row before the edge, if each is read as the other."""
        row, of, edge = variant
        rows = each.rows.copy()
        rows[[of, row]] = each.rows[[row, of]]
        logits = as_tensor(self._logits(rows))[of, :edge]
        return movement(logits, each.known[of][:edge], UNITS * self._eps)

    def _cut(self, whole: Pass) -> Leak | None:
        """A leak from the length: the base moves at most of its positions if it is cut."""
        rows, base = whole.rows, whole.known[0]
        n = max(1, len(base) // 2)
        moved = movement(as_tensor(self._logits(rows[:, :n]))[0], base[:n])
        if np.median(moved) <= ROUNDING * spread(base):
            return None
        _, bound = self._repeat(rows, base)
        if np.median(moved) <= bound:
            return None
        self.is_certain = False  # a window of another length is rounded in other ways
        return leak("length", moved, rows[:1], n)


def leak(kind: str, moved: Floats, windows: Tokens, edge: int = 0) -> Leak:
    """The leak of this kind at the position that moved (N,) most, with the windows that show it."""
    position = int(np.argmax(moved))
    shown = tuple(windows) if kind != "length" else (windows[0], windows[0][:edge])
    return Leak(kind, position, windows.shape[1], edge, float(moved[position]), shown)


def farthest(moved: Floats) -> float:
    """The largest of moved (N,); 0 if there are none."""
    return float(moved.max(initial=0.0))
