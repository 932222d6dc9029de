"""Chunk: tokens on their way through the tables, one order at a time."""

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.table import Nodes, Table, Tokens
from ngrammix.kernels.count import count_orders
from ngrammix.kernels.find import find_orders

SIZE = 8192  # tokens: what they touch in one table stays in the core's own cache


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

    def take(self, tokens: Tokens, position: int, evidence: Evidence, start: int) -> "Chunk":
        """Begin with tokens (n,), the first at `position`; what was known goes to `evidence`.

        There from place `start` on; nowhere if it has no places.
        """
        self.tokens, self.position = tokens, position
        self.evidence, self.start = evidence, start
        self._is_new = np.zeros(len(tokens), np.bool_)
        self._fresh = np.ones(len(tokens), np.bool_)
        return self

    def find(self, tables: Sequence[Table], orders: range, nodes: Nodes, seen: Nodes) -> None:
        """Find or make the n-grams of `orders`, once those of all shorter are found.

        nodes, seen (order + 1,): the column of `grams` and `seen` before the chunk; of `orders`,
        replaced by that behind it.
        """
        for k in orders:
            tables[k].reserve(len(self.tokens))
        find_orders(
            self.tokens, orders.start, orders.stop - 1, nodes, seen, self.grams, self.seen,
            self._is_new, tuple(table.slots for table in tables), rows_of(tables),
            tuple(table.used for table in tables), self.position,
        )  # fmt: skip

    def count(
        self, tables: Sequence[Table], lengths: range, counts_of_counts: NDArray[np.int64]
    ) -> None:
        """Count what follows the contexts of `lengths`, after all longer ones."""
        count_orders(
            self.tokens, lengths.stop - 1, lengths.start, self.grams, self.seen, rows_of(tables),
            self._fresh, counts_of_counts, self.evidence._columns, self.evidence.discounts,
            self.start, self.position,
        )  # fmt: skip


def rows_of(tables: Sequence[Table]) -> tuple[NDArray[np.uint32], ...]:
    """Rows of every order, for the kernels."""
    return tuple(table.rows for table in tables)


def sizes(n_tokens: int, size: int) -> Iterator[int]:
    """Sizes of the chunks that `n_tokens` are cut into, of at most `size` each."""
    yield from repeat(size, n_tokens // size)
    if n_tokens % size:
        yield n_tokens % size
