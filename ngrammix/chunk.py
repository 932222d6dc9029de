"""Chunk: tokens on their way through the tables, one order at a time; and how two threads share it.

Order k needs only the nodes that order k - 1 found, and counts only what all longer orders left to
it. So a thread may find the short orders of one chunk while another still finds the long ones of
the chunk before. Each row has columns of one writer at a time, hence the same bits.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels.count import count
from ngrammix.table import Nodes, Table, Tokens

SIZE = 8192  # tokens: what they touch in one table stays in the core's own cache
IN_FLIGHT = 8  # chunks in the hands of two threads


class Chunk:
    """Up to `size` tokens, the n-grams that end at each, and where their evidence goes.

    Attributes
    ----------
    grams, seen : (order + 1, size + 1) uint32
        Node of the last k tokens before each position, and what its LAST said when they came.
    """

    def __init__(self, order: int, size: int) -> None:
        self.grams = np.empty((order + 1, size + 1), np.uint32)
        self.grams[0] = 0
        self.seen = np.zeros_like(self.grams)

    def take(
        self, tokens: Tokens, position: int, fields: NDArray[np.uint32], discounts: NDArray[Any]
    ) -> "Chunk":
        """Begin with tokens (n,), the first at `position`; of no evidence if that is empty."""
        self.tokens, self.position = tokens, position
        self.fields, self.discounts = fields, discounts
        self._is_new = np.zeros(len(tokens), np.bool_)
        self._fresh = np.ones(len(tokens), np.bool_)
        return self

    def find(
        self, tables: Sequence[Table], orders: Sequence[int], nodes: Nodes, seen: Nodes
    ) -> None:
        """Find or make the n-grams of `orders`, ascending, once those of all shorter are found.

        nodes, seen (order + 1,): the column of `grams` and `seen` before the chunk; of `orders`,
        replaced by that behind it.
        """
        n = len(self.tokens)
        for k in orders:
            tables[k].reserve(n)
        for k in orders:
            self.grams[k, 0], self.seen[k, 0] = nodes[k], seen[k]
            tables[k].find(
                self.tokens, self.grams[k - 1], self.grams[k], self.seen[k], self._is_new,
                self.position, True,
            )  # fmt: skip
            nodes[k], seen[k] = self.grams[k, n], self.seen[k, n]

    def count(
        self, tables: Sequence[Table], lengths: Sequence[int], counts_of_counts: NDArray[np.int64]
    ) -> None:
        """Count what follows the contexts of `lengths`, descending, after all longer ones."""
        for k in lengths:
            count(
                self.tokens, k, self.grams[k], self.grams[k + 1], self.seen[k], tables[k].rows,
                tables[k + 1].rows, self._fresh, counts_of_counts[k], self.fields[k],
                self.discounts[k], self.position,
            )  # fmt: skip


def overlap(
    chunks: Iterable[Chunk],
    begin: Callable[[Chunk], None],
    deepen: Callable[[Chunk], None],
    end: Callable[[Chunk], None],
) -> None:
    """For each chunk in turn: `begin` here, `deepen` in another thread, `end` here.

    A chunk is asked for only while fewer than IN_FLIGHT are under way. The first error of either
    thread is raised here.
    """

    def finish(chunk: Chunk, deepened: Future[None]) -> None:
        deepened.result()
        end(chunk)

    under_way: deque[tuple[Chunk, Future[None]]] = deque()
    with ThreadPoolExecutor(1, "ngrammix") as thread:
        for chunk in chunks:
            begin(chunk)
            under_way.append((chunk, thread.submit(deepen, chunk)))
            if len(under_way) == IN_FLIGHT:
                finish(*under_way.popleft())
        while under_way:
            finish(*under_way.popleft())
