"""Probe: forward passes over changed windows, and what they show about a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.models.futures import all_edges, few_edges, window, with_futures
from eval.models.movement import is_beyond, movement, recorded, spread
from eval.types import Floats, Tokens

Logits = Callable[[Tokens], Any]  # tokens (B, T) int64 -> logits (B, T, V)

ROUNDING = float(np.finfo(np.float32).eps) ** 0.5  # half of the digits, as a share of the spread
NOISE = 4.0  # times the largest noise that was seen
ALONE = 3  # futures, where each needs a pass of its own
WORST = 4  # futures that are read twice


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
    """

    kind: str
    position: int
    length: int
    edge: int
    nats: float


@dataclass(frozen=True, eq=False)
class Pass:
    """What one forward pass shows.

    Attributes
    ----------
    rows : (R, T) int64
        The base, and windows that differ from it from an edge on.
    moves : R - 1 arrays (E,) of float64, nats
        How far the logits of each further row are from those of the base, before its edge E.
    base : (T, V) tensor or array
        Logits of the base.
    """

    rows: Tokens
    moves: Sequence[Floats]
    base: Any

    @property
    def largest(self) -> float:
        """The largest of the moves; 0 if there are none."""
        return max(map(farthest, self.moves))


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

    Attributes
    ----------
    is_certain : bool
        Whether the leak that was found cannot be rounding noise: the logits are the same bits
        whenever the tokens are.
    """

    def __init__(self, logits: Logits, text: Tokens, vocab_size: int, seed: int) -> None:
        self._logits, self._text, self._vocab_size = logits, text, vocab_size
        self._rng = np.random.default_rng(seed)
        self.is_certain = True

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

    def look_alone(self, length: int) -> Leak | None:
        """A leak across few places of a window, with one row in each pass."""
        edges = few_edges(length)[:ALONE]
        rows = self._rows(length, edges)
        base = self._logits(rows[:1])[0]
        moves = [
            movement(self._logits(row[None])[0, :edge], base[:edge])
            for row, edge in zip(rows[1:], edges, strict=True)
        ]
        if max(map(farthest, moves), default=0.0) <= ROUNDING * spread(base):
            return None
        again, bound = self._repeat(rows[:1], base)
        if is_beyond(again, bound):
            return leak("repeat", again, length)
        self.is_certain = False  # the passes differ in more than the future: see `is_beyond`
        return next(
            (leak("future", each, length, len(each)) for each in moves if is_beyond(each, bound)),
            None,
        )

    def _rows(self, length: int, edges: Sequence[int]) -> Tokens:
        return with_futures(window(self._text, length), edges, self._vocab_size, self._rng)

    def _read(self, length: int, edges: Sequence[int]) -> Pass:
        rows = self._rows(length, edges)
        logits = self._logits(rows)
        base = logits[0]
        moves = [movement(logits[i, :edge], base[:edge]) for i, edge in enumerate(edges, 1)]
        return Pass(rows, moves, base.clone() if hasattr(base, "clone") else base.copy())

    def _judge(self, first: Pass, second: Pass | None) -> Leak | None:
        """The leak that these passes show, if it is more than rounding."""
        passes = [first] if second is None else [first, second]
        length, base = first.rows.shape[1], first.base
        beside = np.zeros(length) if second is None else movement(second.base, base)
        limit = ROUNDING * spread(base)
        if max(beside.max(), *(each.largest for each in passes)) <= limit:
            return None
        again, bound = self._repeat(first.rows, base)
        if is_beyond(again, bound):
            return leak("repeat", again, length)
        alike = self._differences(first.rows)
        if is_beyond(alike, bound):
            return leak("rows", alike.max(axis=0), length)
        noise = max(farthest(again), farthest(alike))
        if noise > 0:
            self.is_certain = False
            limit = max(bound, NOISE * noise)
        for each in passes:
            for i in sorted(range(len(each.moves)), key=lambda i: -farthest(each.moves[i]))[:WORST]:
                moved = np.minimum(each.moves[i], self._swap(each, i))
                if farthest(moved) > limit:
                    return leak("future", moved, length, len(moved))
        if is_beyond(beside, bound):
            self.is_certain = False  # experts that work on other tokens round in other ways
            return leak("rows", beside, length)
        return None

    def _repeat(self, rows: Tokens, base: Any) -> tuple[Floats, float]:
        """How far the base moves when the same rows are read again, and a bound for rounding."""
        logits, eps = recorded(lambda: self._logits(rows))
        return movement(logits[0], base), max(ROUNDING, eps**0.5) * spread(base)

    def _differences(self, rows: Tokens) -> Floats:
        """(R - 1, T) nats: how far rows differ from row 0 in a batch where all hold the base."""
        logits = self._logits(np.tile(rows[0], (len(rows), 1)))
        return np.stack([movement(logits[i], logits[0]) for i in range(1, len(rows))])

    def _swap(self, each: Pass, i: int) -> Floats:
        """How far row i + 1 is from the base before its edge, if each is read in row 0."""
        rows = each.rows.copy()
        rows[[0, i + 1]] = each.rows[[i + 1, 0]]
        edge = len(each.moves[i])
        return movement(self._logits(rows)[0, :edge], each.base[:edge])

    def _cut(self, whole: Pass) -> Leak | None:
        """A leak from the length: the base moves at most of its positions if it is cut."""
        length = whole.rows.shape[1]
        n = max(1, length // 2)
        logits = self._logits(whole.rows[:, :n])
        moved = movement(logits[0], whole.base[:n])
        if np.median(moved) <= ROUNDING * spread(whole.base):
            return None
        _, bound = self._repeat(whole.rows, whole.base)
        if np.median(moved) <= bound:
            return None
        self.is_certain = False  # a window of another length is rounded in other ways
        return leak("length", moved, length, n)


def leak(kind: str, moved: Floats, length: int, edge: int = 0) -> Leak:
    """The leak of this kind at the position that moved (N,) most."""
    position = int(np.argmax(moved))
    return Leak(kind, position, length, edge, float(moved[position]))


def farthest(moved: Floats) -> float:
    """The largest of moved (N,); 0 if there are none."""
    return float(moved.max(initial=0.0))
