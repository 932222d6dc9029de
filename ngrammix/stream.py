"""Stream: the tables of every order and the place that the stream has reached in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.backoff import raise_order
from ngrammix.evidence import Evidence
from ngrammix.integrity import check_state, check_tables
from ngrammix.kernels import find
from ngrammix.kernels.count import count, discount
from ngrammix.table import Nodes, Table, Tokens

CHUNK = 4096  # tokens walked one order at a time; their rows stay in the core's own cache


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
    grams, seen : (order + 1, CHUNK + 1) uint32
        Node of the last k tokens before each position of a chunk, and where those k tokens stood
        last; column 0 is the state between calls.
    """

    def __init__(self, order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self.position = 0
        self.tables = [Table(is_longest=k == order) for k in range(order + 1)]
        self.tables[0].add_root()
        self.counts_of_counts = np.zeros((order, 2), np.int64)
        self.grams = self.at_root(CHUNK)
        self.seen = np.zeros_like(self.grams)

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order,) float32 in (0, 1]: the absolute discount of each order now."""
        return np.array([discount(row) for row in self.counts_of_counts], np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, indexes and buffers as allocated."""
        tables = sum(table.nbytes for table in self.tables)
        return tables + self.grams.nbytes + self.seen.nbytes + self.counts_of_counts.nbytes

    def learn(self, tokens: Tokens, evidence: Evidence | None) -> None:
        """Learn tokens (T,), writing down first what was known before each if `evidence`."""
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            self._reserve(len(chunk))
            self._take(chunk, self.grams, self.seen, evidence, start)
            self.grams[:, 0] = self.grams[:, len(chunk)]
            self.seen[:, 0] = self.seen[:, len(chunk)]

    def update(self, context: Tokens, token: Tokens) -> None:
        """Count token (1,) after each suffix of `context` (C,), C < order, beside the stream."""
        self._reserve(len(context) + 1)
        nodes = self.walk(context, find.MAKE)[:, -1:]
        grams = np.concatenate([nodes, nodes], axis=1)
        self._take(token, grams, np.zeros_like(grams), None)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything but `position` that the stream's future depends on, by name."""
        rows = {f"rows {k}": table.rows[: len(table)] for k, table in enumerate(self.tables)}
        state = {"nodes": self.grams[:, 0], "seen": self.seen[:, 0]}
        return state | {"counts of counts": self.counts_of_counts} | rows

    def restore(self, position: int, state: dict[str, NDArray[Any]]) -> None:
        """Go on where a stream of the same order and vocabulary stood when `state` was taken.

        Raises ValueError or RuntimeError if such a stream cannot have had this state: everything
        that is an address, and every sum, is verified.
        """
        check_state(self.state(), state, self.vocab_size, position)
        self.position = position
        self.grams[:, 0] = state["nodes"]
        self.seen[:, 0] = state["seen"]
        self.counts_of_counts[:] = state["counts of counts"]
        for k in range(1, self.order + 1):
            self.tables[k].restore(state[f"rows {k}"])
        self.tables[0].rows[:1] = state["rows 0"]
        check_tables(self.tables, self.counts_of_counts)

    def boundary(self) -> None:
        """Forget the last tokens as context."""
        self.grams[1:, 0] = find.NONE

    def peek(self) -> Evidence:
        """Evidence of the one position to come; its token is not known: target_count is 0."""
        evidence = Evidence.allocate(self.order, 1)
        evidence.fields[:] = 0
        evidence.discounts[:, 0] = self.discounts
        for k, node in enumerate(self.grams[:-1, 0]):
            if node != find.NONE:
                n, u, hint, hint_count = self.tables[k].rows[node, find.FOLLOWERS :]
                age = self.position - self.seen[k, 0] if self.seen[k, 0] > 0 else 0
                evidence.fields[k, 0] = n, u, 0, hint, hint_count, age
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
            probability = raise_order(probability, counts, followers, distinct, float(d))
        return probability

    def walk(self, tokens: Tokens, mode: int) -> Nodes:
        """(order + 1, T + 1): nodes of the last k tokens before each position, from the root."""
        grams = self.at_root(len(tokens))
        self._find(tokens, grams, np.zeros_like(grams), 0, mode)
        return grams

    def at_root(self, n_tokens: int) -> Nodes:
        """Node buffer (order + 1, n_tokens + 1): before its first position no token came."""
        grams = np.full((self.order + 1, n_tokens + 1), find.NONE, np.uint32)
        grams[0] = 0
        return grams

    def _reserve(self, n_tokens: int) -> None:
        """Make room for what `n_tokens` more can add: one n-gram of each order a token."""
        for table in self.tables[1:]:
            table.reserve(n_tokens)

    def _take(
        self, tokens: Tokens, grams: Nodes, seen: Nodes, evidence: Evidence | None, offset: int = 0
    ) -> None:
        """Find or make every n-gram, shortest first, then count them, longest first."""
        position, self.position = self.position, self.position + len(tokens)
        self._find(tokens, grams, seen, position, find.STAMP)
        written = _NO_EVIDENCE if evidence is None else evidence
        fresh = np.ones(len(tokens), np.bool_)
        for k in range(self.order - 1, -1, -1):
            count(
                tokens, k, grams, seen, self.tables[k].rows, self.tables[k + 1].rows, fresh,
                self.counts_of_counts, written.fields, written.discounts, offset,
                position, evidence is not None,
            )  # fmt: skip

    def _find(self, tokens: Tokens, grams: Nodes, seen: Nodes, position: int, mode: int) -> None:
        for k, table in enumerate(self.tables[1:], start=1):
            table.find(tokens, grams[k - 1], grams[k], seen[k], position, mode)


_NO_EVIDENCE = Evidence.allocate(1, 1)
