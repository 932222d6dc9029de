"""Scorer: somebody's function under audit, called within a budget, its answers checked."""

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Event, Thread
from time import perf_counter
from typing import Any

import numpy as np

from ngrammix.logits import to_numpy
from ngrammix.types import Floats, Tokens

ScoreFn = Callable[[Tokens], Any]
GRACE = 1.0  # seconds beyond the budget that calls may take before they count as hung,
PATIENCE = 4.0  # and times the seconds that they took before
AT_EXIT = 10.0  # seconds that the end of the process waits for a call that was given up


class StoppedError(Exception):
    """The audit cannot go on: the scorer raised, hung, or returned what is no score a token."""


class CountError(Exception):
    """The scorer returned another number of scores than tokens."""

    def __init__(self, tokens: Tokens, n_scores: int) -> None:
        super().__init__(f"{len(tokens)} tokens, {n_scores} scores")
        self.tokens, self.n_scores = tokens, n_scores


@dataclass
class Clock:
    """The budget of an audit in seconds, and what its calls have cost.

    Attributes
    ----------
    budget : float
        Seconds that were given.
    end : float
        Seconds after which the search ends; fewer than the budget once there is a finding.
    calls, tokens : int
        Calls of the scorer, and tokens that they scored together.
    """

    budget: float
    end: float = field(init=False)
    began: float = field(default_factory=perf_counter)
    calls: int = 0
    tokens: int = 0
    _costs: dict[int, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.end = self.budget

    def used(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self.began

    def left(self) -> float:
        """Seconds that are left; negative after the end."""
        return self.end - self.used()

    def share(self, of_left: float) -> float:
        """Seconds: a share of those that are left; 0 after the end."""
        return of_left * max(0.0, self.left())

    def until(self, of_left: float) -> float:
        """Seconds since the start at which a share of those that are left will have been used."""
        return self.used() + self.share(of_left)

    def shorten(self, of_left: float) -> None:
        """Keep a share of the time that is left."""
        self.end = min(self.end, self.until(of_left))

    def add(self, n_tokens: int, seconds: float) -> None:
        """Note the cost of a call."""
        self.calls += 1
        self.tokens += n_tokens
        size = n_tokens.bit_length()
        n, total = self._costs.get(size, (0, 0.0))
        self._costs[size] = (n + 1, total + seconds)

    def cost(self, n_tokens: int) -> float:
        """Seconds that a call with so many tokens takes, by the calls of the next size so far."""
        if not self._costs:
            return 0.0
        size = n_tokens.bit_length()
        near = min(self._costs, key=lambda known: (abs(known - size), -known))
        n, total = self._costs[near]
        return total / n * (2.0 ** (size - near) if near < size else 1.0)


class Scorer:
    """Scores of somebody's function as (n,) float64, each answer checked.

    The function runs in a thread of its own, which is left behind if it does not return. A process
    that the function forks ends when it comes back.

    Parameters
    ----------
    score_fn : callable
        From tokens (n,) int64 to n scores in nats.
    clock : Clock
    options : dict
        Further arguments by name, such as the size of a table.
    """

    def __init__(
        self, score_fn: ScoreFn, clock: Clock, options: dict[str, Any] | None = None
    ) -> None:
        self._score_fn, self._clock, self._options = score_fn, clock, options or {}

    def __call__(self, tokens: Tokens) -> Floats:
        """The scores of one stream.

        Raises
        ------
        StoppedError
            If the function raises, hangs, or returns no row of numbers.
        CountError
            If it returns another number of scores.
        """
        return self.each([tokens])[0]

    def each(self, streams: Sequence[Tokens]) -> list[Floats]:
        """The scores of several streams, in this order; the same errors."""
        scores = self._run(streams)
        for tokens, nats in zip(streams, scores, strict=True):
            if len(nats) != len(tokens):
                raise CountError(tokens, len(nats))
        return scores

    def _run(self, streams: Sequence[Tokens]) -> list[Floats]:
        """The scores of each stream, however many there are."""
        expected = sum(self._clock.cost(len(tokens)) for tokens in streams)
        patience = max(0.0, self._clock.left()) + GRACE + PATIENCE * expected
        answers = run_within(patience, lambda: self._answers(streams))
        if answers is None:
            raise StoppedError(
                f"the scorer did not return within the budget of {self._clock.budget:g} s, in a "
                f"call with at most {max(map(len, streams))} tokens; raise budget_seconds"
            )
        return list(answers)

    def _answers(self, streams: Sequence[Tokens]) -> list[Floats]:
        results = []
        for tokens in streams:
            began = perf_counter()
            with calling(
                f", for {len(tokens)} tokens; it must score any stream of ids below vocab_size"
            ):
                result = self._score_fn(tokens.copy(), **self._options)
            self._clock.add(len(tokens), perf_counter() - began)
            results.append(self._row(tokens, result))
        return results

    def _row(self, tokens: Tokens, result: Any) -> Floats:
        """A copy of what came back: the function may use its array again."""
        try:
            scores = np.asarray(to_numpy(result))
        except Exception as error:  # of any kind: the object is the scorer's
            raise StoppedError(f"a score is no number: {described(error)}") from error
        if scores.dtype.kind not in "fiu" or scores.ndim != 1:
            raise StoppedError(
                f"score_fn must return one score in nats a token, a row of numbers, got "
                f"{type(result).__name__} of shape {scores.shape} and dtype {scores.dtype} for "
                f"{len(tokens)} tokens; return the costs of all tokens in their order"
            )
        return scores.astype(np.float64) + 0.0  # no -0


@contextmanager
def one_process() -> Iterator[None]:
    """Context of a call of foreign code: a process that it forks ends here."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)


@contextmanager
def calling(place: str = "") -> Iterator[None]:
    """Context of a call of the scorer: what it raises becomes a StoppedError."""
    with one_process():
        try:
            yield
        except BaseException as error:  # of any kind, SystemExit too
            raise StoppedError(f"the scorer raised {described(error)}{place}") from error


def run_within(seconds: float, function: Callable[[], Any]) -> Any:
    """What a function returns in a thread of its own, or None if it takes longer; its errors."""
    done, outcome = Event(), {}

    def work() -> None:
        try:
            outcome["value"] = function()
        except BaseException as error:  # handed over to the caller's thread
            outcome["error"] = error
        done.set()

    context = copy_context()
    thread = Thread(target=context.run, args=(work,), daemon=True, name="scorer under audit")
    thread.start()
    if not done.wait(max(0.0, seconds)):
        atexit.register(thread.join, AT_EXIT)  # libraries abort if their thread ends at exit
        return None
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def described(error: BaseException) -> str:
    """Type and text of an error in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
