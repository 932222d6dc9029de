"""Chunks of tokens on their way through the tables, in one thread or in two.

A chunk goes through the tables one order at a time, so that the memory that it touches in one table
stays in the core's caches. Order k needs only the nodes of order k - 1, and counts only what longer
orders left to it. So one thread can find the short orders of a chunk while another one finds the
long orders of the chunk before. At any time each column of a row has one writer, so the bits are
the same.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.table import Table
from ngrammix.kernels.count import count_orders
from ngrammix.kernels.find import find_orders
from ngrammix.types import Nodes, Tokens

CHUNK_SIZE = 8192  # tokens
MAX_IN_FLIGHT = 8  # chunks that two threads work on at a time
END_FRACTION = 4  # the first chunk of two threads is this many times shorter than a middle one


class Chunk:
    """Work buffers for up to `size` tokens, and the tokens that they currently hold.

    Attributes
    ----------
    nodes, last_seen : (order + 1, size + 1) uint32
        Node of the last k tokens before each position, and when that n-gram was last seen.
    """

    def __init__(self, order: int, size: int) -> None:
        self.nodes = np.empty((order + 1, size + 1), np.uint32)
        self.nodes[0] = 0
        self.last_seen = np.zeros_like(self.nodes)

    def begin(self, tokens: Tokens, position: int, evidence: Evidence, start: int) -> Self:
        """Take tokens (T,), the first at `position`; their evidence goes to [start, start + T).

        Evidence of no positions means that none is written.
        """
        self.tokens, self.position = tokens, position
        self.evidence, self.start = evidence, start
        self._is_new = np.zeros(len(tokens), np.bool_)
        self._is_first_count = np.ones(len(tokens), np.bool_)
        return self

    def find(
        self, tables: Sequence[Table], orders: range, stream_nodes: Nodes, stream_last_seen: Nodes
    ) -> None:
        """Find or insert the n-grams of `orders`; those of all shorter orders are found already.

        stream_nodes, stream_last_seen (order + 1,): the state of the stream before the chunk; for
        `orders`, replaced by the state after it.
        """
        for k in orders:
            tables[k].reserve(len(self.tokens))
        find_orders(
            self.tokens, orders.start, orders.stop - 1, stream_nodes, stream_last_seen, self.nodes,
            self.last_seen, self._is_new, tuple(table.slots for table in tables),
            tuple(table.rows for table in tables), tuple(table.n_rows for table in tables),
            self.position,
        )  # fmt: skip

    def count(
        self, tables: Sequence[Table], lengths: range, counts_of_counts: NDArray[np.int64]
    ) -> None:
        """Count the tokens after the contexts of `lengths`; all longer ones are counted already."""
        count_orders(
            self.tokens, lengths.stop - 1, lengths.start, self.nodes, self.last_seen,
            tuple(table.rows for table in tables), self._is_first_count, counts_of_counts,
            self.evidence._columns, self.evidence.discounts, self.start, self.position,
        )  # fmt: skip


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
    reads are slow: a split that leaves all counting to one thread gains nothing.

    Parameters
    ----------
    tables : sequence of Table
        The n-grams of 0, 1, ..., order tokens.
    stream_nodes, stream_last_seen : (order + 1,) uint32
    counts_of_counts : (order, 2) int64
        The state of the stream, updated.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        stream_nodes: Nodes,
        stream_last_seen: Nodes,
        counts_of_counts: NDArray[np.int64],
    ) -> None:
        self._tables = tables
        self._stream_nodes, self._stream_last_seen = stream_nodes, stream_last_seen
        self._counts_of_counts = counts_of_counts
        order = len(tables) - 1
        n_found, n_counted = 4 * order // 7, 3 * order // 7
        self._short_orders, self._long_orders = range(1, n_found + 1), range(n_found + 1, order + 1)
        self._short_lengths, self._long_lengths = range(n_counted), range(n_counted, order)

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Find and count every chunk; at most MAX_IN_FLIGHT are taken before the first is done.

        The first error of either thread is raised here.
        """
        in_flight: deque[tuple[Chunk, Future[None]]] = deque()

        def finish() -> None:
            chunk, long_orders = in_flight.popleft()
            long_orders.result()
            chunk.count(self._tables, self._short_lengths, self._counts_of_counts)

        with ThreadPoolExecutor(1, "ngrammix") as thread:
            for chunk in chunks:
                self._find(chunk, self._short_orders)
                in_flight.append((chunk, thread.submit(self._run_long_orders, chunk)))
                if len(in_flight) == MAX_IN_FLIGHT:
                    finish()
            while in_flight:
                finish()

    def _run_long_orders(self, chunk: Chunk) -> None:
        self._find(chunk, self._long_orders)
        chunk.count(self._tables, self._long_lengths, self._counts_of_counts)

    def _find(self, chunk: Chunk, orders: range) -> None:
        chunk.find(self._tables, orders, self._stream_nodes, self._stream_last_seen)
