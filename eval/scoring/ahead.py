"""Work that runs ahead in a thread of its own, and stretches that it must not run beyond."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items; each next one is made in a thread while this one is worked on."""
    end = object()
    with ThreadPoolExecutor(1, "ngrammix-ahead") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def stretches(
    items: Iterable[Item], size: Callable[[Item], int], least: int
) -> Iterator[Iterator[Item]]:
    """The same items in runs of at least `least` in size; finish one before taking the next."""
    items = iter(items)
    for first in items:
        yield _stretch(chain([first], items), size, least)


def _stretch(items: Iterator[Item], size: Callable[[Item], int], least: int) -> Iterator[Item]:
    while least > 0 and (item := next(items, None)) is not None:
        least -= size(item)
        yield item
