"""Seconds of the ways that a bench compares, which take turns."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

# Libraries read these when they are loaded.
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def key(name: str) -> str:
    """Name as part of a JSON key: lower case, underscores."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


class Rounds:
    """Seconds of each way in each round; the ways take turns, so that ratios are paired.

    Parameters
    ----------
    rounds : sequence of mappings
        For each round, the seconds of each way.
    """

    def __init__(self, rounds: Sequence[Mapping[str, float]]) -> None:
        self.rounds = rounds

    def median(self, way: str) -> float:
        """Median of the seconds of a way."""
        return median(seconds[way] for seconds in self.rounds)

    def ratio(self, way: str, base: str) -> float:
        """Median of the ratios of two ways in the same round."""
        return median(seconds[way] / seconds[base] for seconds in self.rounds)

    def rates(self, n: int) -> dict[str, float]:
        """How many of `n` things each way does in a second."""
        return {way: n / self.median(way) for way in self.rounds[0]}


def take_turns(ways: Mapping[str, Callable[[], float]], runs: int, label: str = "rounds") -> Rounds:
    """Rounds of ways that return their own seconds."""
    return Rounds(
        [{name: way() for name, way in ways.items()} for _ in progress(range(runs), label)]
    )


def race(
    ways: Mapping[str, Callable[[], object]],
    runs: int,
    label: str = "rounds",
    *,
    clock: Callable[[], float] = perf_counter,
) -> Rounds:
    """Rounds of ways that are timed, after a run of each that is not."""
    for way in ways.values():
        way()
    return take_turns({name: partial(timed, way, clock) for name, way in ways.items()}, runs, label)


def timed(work: Callable[[], object], clock: Callable[[], float] = perf_counter) -> float:
    """Seconds of the work."""
    started = clock()
    work()
    return clock() - started


def progress(items: Iterable[T], label: str) -> Iterable[T]:
    """The items, with a bar on stderr where they take more than two seconds."""
    bar: Iterable[T] = tqdm(items, label, delay=2, disable=None)
    return bar


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put them back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Value of a function in a new process, where every library has one thread."""
    with environment(ONE_THREAD), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
