"""Run an iterator ahead of its consumer in a background thread."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ngrammix.checks import check_int

Item = TypeVar("Item")


def prefetch(iterable: Iterable[Item], n_ahead: int = 2) -> Generator[Item, None, None]:
    """Items of an iterable, computed up to `n_ahead` items early in a background thread.

    The kernels release Python's global lock and evidence depends on the tokens alone, so the cache
    can observe the next batches during the model's forward pass. The items and their order are
    those of the iterable. The thread starts with the first item and ends with the generator:
    exhaust it, or call its ``close()`` (see `contextlib.closing`), which waits for the item that is
    being computed; only a KeyboardInterrupt within the generator does not wait for it. Until then,
    do not use the iterable, or a cache that it advances, elsewhere.

    Parameters
    ----------
    iterable : iterable
        Advanced in the background thread only.
    n_ahead : int in 1..1024
        How many items may be computed or waiting beyond the one that the consumer has.

    Returns
    -------
    generator
        Raises an error of the iterable at the position of the item that failed. No later item is
        computed then.

    Raises
    ------
    ValueError
        If `n_ahead` is out of range.

    Examples
    --------
    >>> from ngrammix import NgramCache
    >>> cache = NgramCache(order=2, vocab_size=4)
    >>> batches = [[0, 1, 0], [1, 0, 1]]
    >>> for evidence in prefetch(cache.observe(tokens) for tokens in batches):
    ...     print(evidence.matched_order)  # the model's forward pass goes here
    [0 1 1]
    [2 2 2]
    """
    items = (item for item in iterable)  # a generator: it ends at its first error
    return _prefetched(items, check_int(n_ahead, "n_ahead", 1, 1024))


def _prefetched(items: Iterator[Item], n_ahead: int) -> Generator[Item, None, None]:
    end = object()
    thread = ThreadPoolExecutor(1, "ngrammix-prefetch")
    must_wait = True
    try:
        pending = deque(thread.submit(next, items, end) for _ in range(n_ahead))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]
    except KeyboardInterrupt:
        must_wait = False  # the next item may never come: an iterable may wait for a pipe
        raise
    finally:
        thread.shutdown(wait=must_wait, cancel_futures=True)
