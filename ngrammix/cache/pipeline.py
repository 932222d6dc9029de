"""Chunks of tokens on their way through the tables, in one thread or in two.

A chunk goes through the tables one order at a time, so that the memory that it touches in one table
stays in the core's caches. Order k needs only the rows of order k - 1, and counts only what longer
orders left to it. So one thread can find the short orders of a chunk while another one finds the
long orders of the chunk before. At any time each column of a row has one writer, so the bits are
the same.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Self

import numpy as np

from ngrammix.cache.evidence import NO_ENTRIES, Segment, Segments
from ngrammix.cache.store import NgramStore
from ngrammix.kernels.count import count_orders, learn_orders
from ngrammix.kernels.find import find_orders
from ngrammix.types import Tokens

CHUNK_SIZE = 1 << 13  # tokens, at most 2**16: places have 16 bits
ROWS_A_TOKEN = 2  # that a pass may insert: of this occurrence, and of one that it opens
MAX_IN_FLIGHT = 2  # chunks that two threads work on at a time
END_FRACTION = 4  # the first chunk of two threads is this many times shorter than a middle one


class Chunk:
    """Work buffers for up to `size` tokens, and the tokens that they currently hold.

    Attributes
    ----------
    n_places : (order + 1,) int64
        Number of tokens that end an n-gram of each order that occurred before.
    """

    def __init__(self, order: int, size: int) -> None:
        self._grams = np.zeros((order + 1, size + 1), np.uint64)
        self._places = np.empty((order + 1, size), np.uint16)
        self.n_places = np.empty(order + 1, np.int64)
        self._known = np.empty(size + 1, np.uint8)
        self._opened = np.empty(size, np.uint32)
        self._segments: Segments | None = None
        self._segment: Segment | None = None
        self._shortage: MemoryError | None = None

    @staticmethod
    def bytes_a_token(order: int) -> int:
        """Bytes of the buffers for each token."""
        return 10 * (order + 1) + 5

    def begin(
        self, tokens: Tokens, store: NgramStore, segments: Segments | None, start: int
    ) -> Self:
        """Take the next tokens (T,); `segments`, if any, gets their evidence, from `start` on."""
        self._tokens, self._segments, self._start = tokens, segments, start
        self._n_context = store.stream.n_context
        self._begin = store.stream.index(store.stream.stop)
        self._is_first_count = np.ones(len(tokens), np.bool_)
        return self

    def reserve(self, store: NgramStore, orders: range) -> None:
        """Make room for ``find(orders)``; after a MemoryError the content is what it was."""
        n_tokens = len(self._tokens)
        store.reserve_rows(orders, ROWS_A_TOKEN * n_tokens)
        if orders.start == 1:
            store.stream.reserve(n_tokens)

    def find(self, store: NgramStore, orders: range) -> None:
        """Find, open or insert the n-grams of `orders`, for which there is room.

        All shorter ones are found already.
        """
        stream, n_tokens = store.stream, len(self._tokens)
        if len(orders) == 0:
            return
        if orders.start == 1:
            stream.append(self._tokens)
        find_orders(
            stream.array, self._begin, stream.base, n_tokens, orders.start, orders.stop - 1,
            store.ends, store.n_open, self._grams, self._known, self._opened, self._places,
            self.n_places, *store.columns,
        )  # fmt: skip

    def count(self, store: NgramStore, lengths: range) -> None:
        """Count the tokens after the contexts of `lengths`.

        All n-grams are found already, and the tokens after all longer contexts counted.
        """
        stream, n_tokens = store.stream, len(self._tokens)
        if self._segments is not None and lengths.stop == store.order:
            self._allocate(self._segments)
        segment, counts_of_counts = self._segment, store.counts_of_counts
        count, entries, starts, after = learn_orders, NO_ENTRIES, self.n_places, counts_of_counts
        if segment is not None:
            count, entries, starts = count_orders, segment.entries, segment.starts
            after = segment.counts_of_counts
        count(
            stream.array, self._begin, stream.base, n_tokens, lengths.stop - 1, lengths.start,
            self._n_context, self._places, self.n_places, self._known, self._grams,
            store.columns.rows, self._is_first_count, counts_of_counts, entries, starts,
            after,
        )  # fmt: skip

    def hand_over(self) -> None:
        """Hand over the evidence of the tokens, which are counted, and keep nothing of it.

        MemoryError if there was no memory for it.
        """
        segments, segment, shortage = self._segments, self._segment, self._shortage
        self._segments = self._segment = self._shortage = None
        if shortage is not None:
            raise shortage
        if segments is not None and segment is not None:
            segments.done.append(segment)

    def _allocate(self, segments: Segments) -> None:
        """Make room for the evidence. Without memory the tokens are counted all the same.

        Their n-grams are in the tables already, where each must be counted.
        """
        try:
            self._segment = segments.allocate(
                self._start, len(self._tokens), self._known, self.n_places, self._n_context
            )
        except MemoryError as error:
            self._shortage = error


def chunk_sizes(n_tokens: int, max_size: int) -> Iterator[int]:
    """Sizes of the chunks of `n_tokens` for one thread: `max_size` each, the last one smaller."""
    yield from repeat(max_size, n_tokens // max_size)
    if n_tokens % max_size:
        yield n_tokens % max_size


def pipeline_chunk_sizes(n_tokens: int, max_size: int) -> Iterator[int]:
    """Sizes of the chunks of `n_tokens` for two threads: shorter at both ends.

    While one thread has the first or the last chunk, the other one is idle.
    """
    min_size = max(1, max_size // END_FRACTION)
    left = n_tokens
    while left > 0:
        largest = min_size if left == n_tokens else max(min_size, left // 2)
        size = min(left, largest, max_size)
        yield size
        left -= size


class TwoThreadPipeline:
    """The calling thread finds the short orders, a second one the long ones; both count.

    The split was the fastest of those tried on 2 M tokens. Rows that one core writes and the other
    reads are slow: a split that leaves all counting to one thread gains nothing. How many orders
    are short follows from the places of the run before, because few places have long contexts.

    Parameters
    ----------
    store : NgramStore
        The n-grams and the state of the stream, updated.
    """

    FOUND, COUNTED = 4 / 7, 3 / 7  # shares of the places that the calling thread finds, and counts

    def __init__(self, store: NgramStore) -> None:
        self._store = store
        self._n_places = np.ones(store.order + 1, np.int64)  # of each order

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Find and count every chunk; at most MAX_IN_FLIGHT are taken before the first is done.

        The first error of either thread is raised here.
        """
        in_flight: deque[tuple[Chunk, Future[None]]] = deque()
        order, shares = self._store.order, self._n_places[:-1].cumsum() / self._n_places[:-1].sum()
        n_found = 1 + int(np.searchsorted(shares, self.FOUND))
        n_counted = int(np.searchsorted(shares, self.COUNTED))

        def find(chunk: Chunk, orders: range) -> None:
            chunk.reserve(self._store, orders)
            chunk.find(self._store, orders)

        def run_long_orders(chunk: Chunk) -> None:
            find(chunk, range(n_found + 1, order + 1))
            chunk.count(self._store, range(n_counted, order))

        def finish() -> None:
            chunk, long_orders = in_flight.popleft()
            long_orders.result()
            chunk.count(self._store, range(n_counted))
            chunk.hand_over()
            self._n_places = chunk.n_places.copy()

        with ThreadPoolExecutor(1, "ngrammix") as thread:
            for chunk in chunks:
                find(chunk, range(1, n_found + 1))
                in_flight.append((chunk, thread.submit(run_long_orders, chunk)))
                if len(in_flight) == MAX_IN_FLIGHT:
                    finish()
            while in_flight:
                finish()
