"""Relay: two threads that walk one stream, a chunk apart.

Order k needs only the nodes that order k - 1 found, and counts only what all longer orders left to
it. So one thread may find the short orders of a chunk while another still finds the long ones of
the chunk before. Each row has columns of one writer at a time, hence the same bits.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.chunk import Chunk
from ngrammix.cache.table import Nodes, Table

IN_FLIGHT = 8  # chunks in the hands of the two
SHORTER = 4  # times is the first chunk than one in the middle


class Relay:
    """The short orders are found here, the long ones in another thread; each counts its part.

    The split was the fastest of a few on 2 M tokens. Rows that one core writes and the other reads
    are dear: a split that gives all counting to one thread gains nothing.

    Parameters
    ----------
    tables : sequence of Table
        The n-grams of 0, 1, ..., order tokens.
    nodes, seen : (order + 1,) uint32
    counts_of_counts : (order, 2) int64
        The state of the stream, which moves on with it.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        nodes: Nodes,
        seen: Nodes,
        counts_of_counts: NDArray[np.int64],
    ) -> None:
        self._tables, self._nodes, self._seen = tables, nodes, seen
        self._counts_of_counts = counts_of_counts
        order = len(tables) - 1
        n_found, n_counted = 4 * order // 7, 3 * order // 7
        self._found_here, self._found_there = range(1, n_found + 1), range(n_found + 1, order + 1)
        self._counted_here, self._counted_there = range(n_counted), range(n_counted, order)

    def walk(self, chunks: Iterable[Chunk]) -> None:
        """Find and count each chunk; one is asked for while fewer than IN_FLIGHT are under way.

        The first error of either thread is raised here.
        """
        under_way: deque[tuple[Chunk, Future[None]]] = deque()

        def finish() -> None:
            chunk, deepened = under_way.popleft()
            deepened.result()
            chunk.count(self._tables, self._counted_here, self._counts_of_counts)

        with ThreadPoolExecutor(1, "ngrammix") as thread:
            for chunk in chunks:
                chunk.find(self._tables, self._found_here, self._nodes, self._seen)
                under_way.append((chunk, thread.submit(self._deepen, chunk)))
                if len(under_way) == IN_FLIGHT:
                    finish()
            while under_way:
                finish()

    def _deepen(self, chunk: Chunk) -> None:
        chunk.find(self._tables, self._found_there, self._nodes, self._seen)
        chunk.count(self._tables, self._counted_there, self._counts_of_counts)


def sizes(n_tokens: int, size: int) -> Iterator[int]:
    """Sizes of the chunks that `n_tokens` are cut into, at most `size`; those at the ends shorter.

    While one thread has the first or the last of them, the other has nothing to do.
    """
    shortest = max(1, size // SHORTER)
    left = n_tokens
    while left > 0:
        most = shortest if left == n_tokens else max(shortest, left // 2)
        n = min(left, most, size)
        yield n
        left -= n
