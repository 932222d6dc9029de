"""NgramCache: the streaming face of the tables."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.backoff import raise_order
from ngrammix.checks import (
    NotCopyable,
    as_token,
    as_tokens,
    check_order,
    check_room,
    check_vocab_size,
)
from ngrammix.evidence import Evidence
from ngrammix.integrity import check_tables
from ngrammix.kernels import find
from ngrammix.kernels.count import count, discount
from ngrammix.table import Nodes, Table, Tokens

CHUNK = 4096  # tokens walked one order at a time; their rows stay in the core's own cache


class NgramCache(NotCopyable):
    """An exact streaming n-gram cache: every n-gram up to `order`, no hash ever trusted.

    Counts are Kneser-Ney's continuation counts, kept up as the tokens go by (update exclusion: an
    n-gram is counted only where the next longer one is new). `observe` says what was known before
    each token and then learns it; the same tokens in one call or in a thousand give the same bits.
    One thread at a time.

    Parameters
    ----------
    order : int in 1..32
        Length of the longest n-gram, the predicted token included (KenLM's sense; PPM counts the
        context only, so its order 6 is our 7).
    vocab_size : int >= 1
        V; token ids are in [0, V).

    Raises
    ------
    ValueError
        If order or vocab_size is out of range.

    Examples
    --------
    >>> cache = NgramCache(order=3, vocab_size=4)
    >>> evidence = cache.observe([0, 1, 2, 0, 1])
    >>> evidence.matched_order
    array([0, 1, 1, 1, 2])
    >>> cache.distribution([0, 1]).round(3)
    array([0.247, 0.113, 0.577, 0.063])
    """

    def __init__(self, order: int = 7, vocab_size: int = 8192) -> None:
        self._order = order = check_order(order)
        self._vocab_size = check_vocab_size(vocab_size)
        self._position = 0
        self._tables = [Table(is_longest=k == order) for k in range(order + 1)]
        self._tables[0].add_root()
        self._counts_of_counts = np.zeros((order, 2), np.int64)
        # Column 0 is the state between calls: node of the last k tokens, where they stood last.
        self._grams = self._at_root(CHUNK)
        self._seen = np.zeros_like(self._grams)

    @property
    def order(self) -> int:
        """Length of the longest n-gram, the predicted token included."""
        return self._order

    @property
    def vocab_size(self) -> int:
        """V: token ids are in [0, V)."""
        return self._vocab_size

    @property
    def position(self) -> int:
        """How many tokens were learned."""
        return self._position

    @property
    def tables(self) -> tuple[Table, ...]:
        """The n-grams of 0, 1, ..., order tokens; to look at, not to touch."""
        return tuple(self._tables)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, indexes and buffers as allocated."""
        tables = sum(table.nbytes for table in self._tables)
        return tables + self._grams.nbytes + self._seen.nbytes + self._counts_of_counts.nbytes

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order,) float32 in (0, 1]: the absolute discount of each order now."""
        return np.array([discount(row) for row in self._counts_of_counts], np.float32)

    def __len__(self) -> int:
        """Return the number of n-grams stored, of all orders, contexts never followed included."""
        return sum(len(table) for table in self._tables[1:])

    def __repr__(self) -> str:
        return (
            f"NgramCache(order={self.order}, vocab_size={self.vocab_size}): "
            f"{self.position:,} tokens, {len(self):,} n-grams, {self.nbytes:,} bytes"
        )

    def observe(self, tokens: ArrayLike) -> Evidence:
        """Evidence of each position from the tokens before it; then the tokens are learned.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream.

        Returns
        -------
        Evidence
            Of T positions.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or none; nothing is learned then.
        MemoryError
            If the tables cannot grow; the first tokens may have been learned.
        """
        tokens = self._checked(tokens)
        evidence = Evidence.allocate(self.order, len(tokens))
        self._learn(tokens, evidence)
        return evidence

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens without evidence: a prefill, or context that is not to be scored.

        Takes and raises what `observe` does, and leaves the same state behind.
        """
        self._learn(self._checked(tokens), None)

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        self._grams[1:, 0] = find.NONE

    def peek(self) -> Evidence:
        """Evidence of the one position to come; its token is not known: target_count is 0."""
        evidence = Evidence.allocate(self.order, 1)
        evidence.fields[:] = 0
        evidence.discounts[:, 0] = self.discounts
        for k, node in enumerate(self._grams[:-1, 0]):
            if node != find.NONE:
                n, u, hint, hint_count = self._tables[k].rows[node, find.FOLLOWERS :]
                age = self._position - self._seen[k, 0] if self._seen[k, 0] > 0 else 0
                evidence.fields[k, 0] = n, u, 0, hint, hint_count, age
        return evidence

    def update(self, context: ArrayLike, next_token: int) -> None:
        """Count one n-gram, beside the stream: `next_token` after each suffix of `context`.

        The stream's own context does not move. Updating a stream's tokens one by one, each after
        all tokens before it, leaves the same counts as one `learn`.

        Parameters
        ----------
        context : (C,) int
            The tokens before; the last ``order - 1`` count, none are needed.
        next_token : int
            The token that followed.

        Raises
        ------
        ValueError
            If an id is not an integer in [0, V).
        """
        context = self._checked_context(context)
        token = as_token(next_token, self.vocab_size)
        check_room(self._position, 1)
        self._reserve(len(context) + 1)
        nodes = self._walk(context, find.MAKE)[:, -1:]
        grams = np.concatenate([nodes, nodes], axis=1)
        self._take(token, grams, np.zeros_like(grams), None)

    def log_prob(self, context: ArrayLike, next_token: int) -> float:
        """Nats: the natural log of the cache's own probability of `next_token` after `context`.

        Takes and raises what `update` does; nothing is learned.
        """
        context = self._checked_context(context)
        token = as_token(next_token, self.vocab_size)
        return float(np.log(self._backoff(self._walk(context, find.LOOK)[:, -1], token)[0]))

    def distribution(
        self, context: ArrayLike | None = None, *, discount: float | None = None
    ) -> NDArray[np.float64]:
        """Probability of every next token: (V,) float64, each > 0, sum 1.

        Parameters
        ----------
        context : (C,) int, optional
            The tokens before; the last ``order - 1`` count. Without it: the stream's own context.
        discount : float in (0, 1), optional
            One absolute discount for all orders. Without it: `discounts`, learned from the counts.

        Raises
        ------
        ValueError
            If an id is not an integer in [0, V), or the discount is not in (0, 1).
        """
        if discount is not None and not 0 < np.float32(discount) < 1:
            raise ValueError(f"discount must be in (0, 1), got {discount}; or leave it out")
        if context is None:
            nodes = self._grams[:, 0]
        else:
            nodes = self._walk(self._checked_context(context), find.LOOK)[:, -1]
        return self._backoff(nodes, np.arange(self.vocab_size), discount)

    def check(self) -> None:
        """Verify the tables: every sum that makes the estimators exact, every n-gram findable.

        Raises
        ------
        RuntimeError
            If a context's followers are not the sum of its children's counts, its distinct
            followers not their number, its hint not a largest one, or an n-gram is stored twice or
            not found.
        """
        check_tables(self._tables, self._counts_of_counts)

    def _checked(self, tokens: ArrayLike) -> Tokens:
        tokens = as_tokens(tokens, self.vocab_size)
        check_room(self._position, len(tokens))
        return tokens

    def _checked_context(self, context: ArrayLike) -> Tokens:
        context = as_tokens(context, self.vocab_size, "context", may_be_empty=True)
        return context[len(context) - min(len(context), self.order - 1) :]

    def _at_root(self, n_tokens: int) -> Nodes:
        """Node buffer (order + 1, n_tokens + 1): before its first position no token came."""
        grams = np.full((self.order + 1, n_tokens + 1), find.NONE, np.uint32)
        grams[0] = 0
        return grams

    def _reserve(self, n_tokens: int) -> None:
        """Make room for what `n_tokens` more can add: one n-gram of each order a token."""
        for table in self._tables[1:]:
            table.reserve(n_tokens)

    def _learn(self, tokens: Tokens, evidence: Evidence | None) -> None:
        for start in range(0, len(tokens), CHUNK):
            chunk = tokens[start : start + CHUNK]
            self._reserve(len(chunk))
            self._take(chunk, self._grams, self._seen, evidence, start)
            self._grams[:, 0] = self._grams[:, len(chunk)]
            self._seen[:, 0] = self._seen[:, len(chunk)]

    def _take(
        self, tokens: Tokens, grams: Nodes, seen: Nodes, evidence: Evidence | None, offset: int = 0
    ) -> None:
        """Find or make every n-gram, shortest first, then count them, longest first."""
        position, self._position = self._position, self._position + len(tokens)
        self._find(tokens, grams, seen, position, find.STAMP)
        written = _NO_EVIDENCE if evidence is None else evidence
        fresh = np.ones(len(tokens), np.bool_)
        for k in range(self.order - 1, -1, -1):
            count(
                tokens, k, grams, seen, self._tables[k].rows, self._tables[k + 1].rows, fresh,
                self._counts_of_counts, written.fields, written.discounts, offset,
                position, evidence is not None,
            )  # fmt: skip

    def _find(self, tokens: Tokens, grams: Nodes, seen: Nodes, position: int, mode: int) -> None:
        for k, table in enumerate(self._tables[1:], start=1):
            table.find(tokens, grams[k - 1], grams[k], seen[k], position, mode)

    def _walk(self, tokens: Tokens, mode: int) -> Nodes:
        """(order + 1, T + 1): nodes of the last k tokens before each position, from the root."""
        grams = self._at_root(len(tokens))
        self._find(tokens, grams, np.zeros_like(grams), 0, mode)
        return grams

    def _backoff(
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
            context = self._tables[k].rows[nodes[k]]
            followers, distinct = int(context[find.FOLLOWERS]), int(context[find.DISTINCT])
            if followers == 0:
                break
            counts = self._tables[k + 1].token_counts(np.full(len(tokens), nodes[k]), tokens)
            probability = raise_order(probability, counts, followers, distinct, float(d))
        return probability


_NO_EVIDENCE = Evidence.allocate(1, 1)
