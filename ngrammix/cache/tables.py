"""Stream: the tables of every order and the place that the stream has reached in them."""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache import chunk
from ngrammix.cache import eviction as forget
from ngrammix.cache import pipeline as relay
from ngrammix.cache.chunk import Chunk
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.integrity import check_state, check_tables
from ngrammix.cache.kneser_ney import interpolate_order
from ngrammix.cache.memory_limit import Budget
from ngrammix.cache.table import Nodes, Table, Tokens
from ngrammix.kernels import find
from ngrammix.kernels.count import discount


class Stream:
    """What NgramCache does, behind its checks: every argument is trusted.

    Attributes
    ----------
    tables : list of Table
        The n-grams of 0, 1, ..., order tokens.
    position : int
        Tokens learned.
    counts_of_counts : (order, 2) int64
        N-grams of each order that were counted once, and twice.
    nodes, seen : (order + 1,) uint32
        Node of the last k tokens, and what its LAST said when they came.
    budget : Budget
        When something must be forgotten.
    sweeps, forgotten : (1,) int64, (order + 1,) int64
        How often something was, and how many n-grams of each length.
    """

    def __init__(
        self, order: int, vocab_size: int, memory_limit: int | None = None, n_threads: int = 1
    ) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self.n_threads = n_threads
        self.position = 0
        self.tables = [Table(is_longest=k == order) for k in range(order + 1)]
        self.counts_of_counts = np.zeros((order, 2), np.int64)
        self.nodes = np.full(order + 1, find.NONE, np.uint32)
        self.seen = np.zeros(order + 1, np.uint32)
        self.sweeps = np.zeros(1, np.int64)
        self.forgotten = np.zeros(order + 1, np.int64)
        self.tables[0].add_root()
        self.nodes[0] = 0
        # The buffers of two threads, whatever n_threads is: both must forget the same.
        buffer_bytes = relay.IN_FLIGHT * (self.nodes.nbytes + self.seen.nbytes)
        self.budget = Budget(self.tables, memory_limit, chunk.SIZE, buffer_bytes)
        n_chunks = relay.IN_FLIGHT if n_threads > 1 else 1
        self._chunks = [Chunk(order, self.budget.chunk) for _ in range(n_chunks)]
        self._relay = relay.Relay(self.tables, self.nodes, self.seen, self.counts_of_counts)
        self._no_evidence = Evidence.allocate(order, 0)

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order,) float32 in (0, 1]: the absolute discount of each order now."""
        return np.array([discount(row) for row in self.counts_of_counts], np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, indexes and buffers, in whole pages."""
        return self.budget.nbytes_with(self.tables, 0)

    def learn(self, tokens: Tokens, evidence: Evidence | None) -> None:
        """Learn tokens (T,), writing down first what was known before each if `evidence`."""
        start = 0
        while start < len(tokens):
            stop = min(len(tokens), start + self._make_room())
            if self._can_share(stop - start):
                sizes = relay.sizes(stop - start, self.budget.chunk)
                self._walk_in_threads(self._split(tokens, evidence, start, sizes))
            else:
                sizes = chunk.sizes(stop - start, self.budget.chunk)
                for work in self._split(tokens, evidence, start, sizes):
                    self._walk(work)
            start = stop
        self._make_room()  # now: what is asked of the next position is asked of what it will meet

    def update(self, context: Tokens, token: Tokens) -> None:
        """Count token (1,) after each suffix of `context` (C,), C < order, beside the stream."""
        self._make_room()
        nodes = self.walk(context, makes=True)[:, -1]
        work = self._chunks[0].take(token, self.position, self._no_evidence, 0)
        work.find(self.tables, self._upward, nodes, np.zeros_like(nodes))
        work.count(self.tables, self._lengths, self.counts_of_counts)
        self.position += 1
        self._make_room()

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything but `position` that the stream's future depends on, by name."""
        rows = {f"rows {k}": table.rows[: len(table)] for k, table in enumerate(self.tables)}
        state: dict[str, NDArray[Any]] = {
            "nodes": self.nodes,
            "seen": self.seen,
            "counts of counts": self.counts_of_counts,
            "bits": np.array([table.bits for table in self.tables], np.uint32),
            "sweeps": self.sweeps,
            "forgotten": self.forgotten,
        }
        return state | rows

    def restore(self, position: int, state: dict[str, NDArray[Any]]) -> None:
        """Go on where a stream of the same order and vocabulary stood when `state` was taken.

        Raises ValueError or RuntimeError if such a stream cannot have had this state: everything
        that is an address, and every sum, is verified. Its rows are taken out of `state` one
        by one, so that little is held twice.
        """
        check_state(self.state(), state, self.vocab_size, position)
        self.position = position
        self.nodes[:] = state["nodes"]
        self.seen[:] = state["seen"]
        self.counts_of_counts[:] = state["counts of counts"]
        self.sweeps[:] = state["sweeps"]
        self.forgotten[:] = state["forgotten"]
        for k in range(1, self.order + 1):
            self.tables[k].restore(state.pop(f"rows {k}"), int(state["bits"][k]))
        self.tables[0].rows[:1] = state["rows 0"]
        check_tables(self.tables, self.counts_of_counts)

    def boundary(self) -> None:
        """Forget the last tokens as context."""
        self.nodes[1:] = find.NONE

    def clear(self) -> None:
        """Forget everything; without a limit, the memory stays for the next stream."""
        for table in self.tables:
            table.clear(keeps_pages=self.budget.limit is None)
        self.tables[0].add_root()
        for array in (self.counts_of_counts, self.seen, self.sweeps, self.forgotten):
            array[:] = 0
        self.boundary()
        self.position = 0

    def peek(self) -> Evidence:
        """Evidence of the one position to come; its token is not known: target_count is 0."""
        evidence = Evidence.allocate(self.order, 1)
        evidence._columns[:] = 0
        evidence.discounts[:, 0] = self.discounts
        for k, node in enumerate(self.nodes[:-1]):
            if node != find.NONE:
                n, u, hint, hint_count = self.tables[k].rows[node, find.FOLLOWERS :]
                now = self.position + find.BEFORE_FIRST
                age = now - self.seen[k] if self.seen[k] > 0 else 0
                evidence._columns[k, 0] = n, u, 0, hint, hint_count, age
        return evidence

    def backoff(
        self, nodes: Nodes, tokens: Tokens, discount: float | None = None
    ) -> NDArray[np.float64]:
        """(N,): backoff probability of each token after the contexts at `nodes` (order + 1,)."""
        discounts = self.discounts
        if discount is not None:
            discounts[:] = discount
        probability = np.full(len(tokens), 1 / self.vocab_size)
        for k, d in enumerate(discounts):
            if nodes[k] == find.NONE:
                break
            context = self.tables[k].rows[nodes[k]]
            followers, distinct = int(context[find.FOLLOWERS]), int(context[find.DISTINCT])
            if followers == 0:
                break
            counts = self.tables[k + 1].token_counts(np.full(len(tokens), nodes[k]), tokens)
            probability = interpolate_order(probability, counts, followers, distinct, float(d))
        return probability

    def walk(self, tokens: Tokens, *, makes: bool = False) -> Nodes:
        """(order + 1, T + 1): nodes of the last k tokens before each position, from the root.

        What is missing is made if it `makes`, as seen just before the next token of the stream.
        """
        grams = np.full((self.order + 1, len(tokens) + 1), find.NONE, np.uint32)
        grams[0] = 0
        seen, is_new = np.zeros(len(tokens) + 1, np.uint32), np.zeros(len(tokens), np.bool_)
        position = self.position - len(tokens)
        for k in self._upward:
            self.tables[k].find(tokens, grams[k - 1], grams[k], seen, is_new, position, makes)
        return grams

    @property
    def _upward(self) -> range:
        """Orders of the n-grams, shortest first."""
        return range(1, self.order + 1)

    @property
    def _lengths(self) -> range:
        """Lengths of the contexts."""
        return range(self.order)

    def _make_room(self) -> int:
        """Tokens until the next look at the budget, for which room is made; it may have to forget.

        And for what one `update` adds beside the stream: at most `order` n-grams of each length.
        """
        n_tokens = self.budget.block - self.position % self.budget.block
        need = self.order + (n_tokens if self.budget.limit is not None else 0)
        n_kept = sum(map(len, self.tables))
        while n_kept > 0 and not self.budget.has_room(self.tables, need):
            n_kept = int(forget.KEPT * n_kept)
            self.forgotten += forget.forget(
                self.tables, self.counts_of_counts, self.nodes, self.position, n_kept
            )
            self.sweeps += 1
        for table in self.tables[1:]:
            table.reserve(need)
        return n_tokens

    def _split(
        self, tokens: Tokens, evidence: Evidence | None, start: int, sizes: Iterable[int]
    ) -> Iterator[Chunk]:
        """Chunks of these sizes, from token `start` on, in one of the buffers after the other."""
        for work, size in zip(cycle(self._chunks), sizes, strict=False):
            piece = tokens[start : start + size]
            if evidence is None:
                yield work.take(piece, self.position, self._no_evidence, 0)
            else:
                yield work.take(piece, self.position, evidence, start)
            self.position += size
            start += size

    def _can_share(self, n_tokens: int) -> bool:
        """Whether two threads may walk so many tokens: rows that move lose what is written."""
        is_worth_it = self.n_threads > 1 and n_tokens > self.budget.chunk
        return is_worth_it and all(table.grows_in_place(n_tokens) for table in self.tables)

    def _walk(self, work: Chunk) -> None:
        work.find(self.tables, self._upward, self.nodes, self.seen)
        work.count(self.tables, self._lengths, self.counts_of_counts)

    def _walk_in_threads(self, block: Iterator[Chunk]) -> None:
        try:
            self._relay.walk(block)
        except MemoryError:  # found, but not counted by all orders: no context reaches over that
            self.boundary()
            raise
