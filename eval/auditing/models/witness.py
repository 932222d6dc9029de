"""Witness of a model: the smallest windows that show a leak, and the two numbers that differ."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from eval.models.movement import as_tensor, log_softmax, movement
from eval.models.probe import Leak, Logits, farthest
from eval.types import Tokens
from ngrammix.auditing.scorer import Clock
from ngrammix.auditing.witness import Witness

SHARE = 0.25  # of the movement that was found must be left in the smaller windows
SECONDS = 0.1  # share of the budget that is spent on smaller windows


def shrunk(logits: Logits, found: Leak, clock: Clock) -> Leak:
    """A leak in windows as short as they get: first their ends are cut off, then their beginnings.

    Only a leak of the future is made smaller.
    """
    if found.kind != "future":
        return found
    end, best = clock.used() + SECONDS * clock.budget, found
    for smaller in (shorter_ends, shorter_beginnings, one_change):
        for base, other, edge in smaller(best):
            if clock.used() > end:
                return best
            if (shown := attempt(logits, base, other, edge, found.nats)) is not None:
                best = shown
                break
    return best


def shorter_ends(found: Leak) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Windows that end 1, 2, 4, ... tokens after the edge."""
    base, other = found.windows
    n = found.edge + 1
    while n < found.length:
        yield base[:n], other[:n], found.edge
        n = found.edge + 2 * (n - found.edge)


def shorter_beginnings(found: Leak) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Windows that begin 0, 1, 3, 7, ... tokens before the position."""
    base, other = found.windows
    start, step = found.position, 1
    while start > 0:
        yield base[start:], other[start:], found.edge - start
        start, step = start - step, 2 * step


def one_change(found: Leak) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Windows that differ in one token, at the edge."""
    base, other = found.windows
    one = base.copy()
    one[found.edge] = other[found.edge]
    yield base, one, found.edge


def attempt(logits: Logits, base: Tokens, other: Tokens, edge: int, nats: float) -> Leak | None:
    """The leak in two windows of one batch; None if they show too little, or cannot be read."""
    try:
        both = as_tensor(logits(np.stack([base, other])))
    except Exception:  # of any kind: a model need not take each shape, and time may be up
        return None
    moved = movement(both[1, :edge], both[0, :edge])
    if farthest(moved) < SHARE * min(nats, 1e9):
        return None
    position = int(np.argmax(moved))
    return Leak("future", position, len(base), edge, float(moved[position]), (base, other))


def witness_of(logits: Logits, found: Leak) -> Witness:
    """The windows of a leak, and the log-probability that moved most, in both.

    The numbers are 0 and the nats of the leak where the windows alone do not show it.
    """
    windows = [tuple(map(int, window)) for window in found.windows]
    stream, other = windows[0], windows[1] if len(windows) > 1 else ()
    witness = Witness("logits", (0.0, found.nats), "nats", stream, other, found.position)
    try:
        token, numbers = numbers_of(logits, witness)
    except Exception:  # of any kind: a model need not take each shape, and time may be up
        return witness
    if numbers[0] == numbers[1]:
        return witness
    return Witness("logits", numbers, "nats", stream, other, found.position, (token,))


def numbers_of(logits: Logits, witness: Witness) -> tuple[int, tuple[float, float]]:
    """The token whose log-probability moves most at the position of a witness, and both values.

    Without another window, the first one is read twice. A shorter one, which begins as the first
    does, is read alone. One of the same length is read in the same batch: either it has other
    logits there, or the first one has, beside it in the place of a copy of itself.
    """
    base, other = (np.array(ids, np.int64) for ids in (witness.stream, witness.other))
    t = witness.position or 0
    if len(other) != len(base):
        first = as_tensor(logits(base[None])).clone()
        return apart_at(t, first, logits((other if len(other) else base)[None]))
    both = as_tensor(logits(np.stack([base, other]))).clone()
    rows = apart_at(t, both[:1], both[1:])
    if np.array_equal(base[: t + 1], other[: t + 1]) and rows[1][0] != rows[1][1]:
        return rows
    beside = apart_at(t, logits(np.stack([base, base])), both)
    return beside if beside[1][0] != beside[1][1] else rows


def apart_at(position: int, a: Any, b: Any) -> tuple[int, tuple[float, float]]:
    """The token whose log-probability differs most at a position of the first rows, and both."""
    p, q = (log_softmax(as_tensor(logits)[0, position]) for logits in (a, b))
    apart = (p - q).abs().nan_to_num(nan=0.0, posinf=np.inf)
    token = int(apart.argmax())
    return token, (float(p[token]), float(q[token]))
