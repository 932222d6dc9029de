"""NgramCache: the streaming face of the tables."""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import snapshot
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.integrity import check_tables
from ngrammix.cache.table import Table, Tokens
from ngrammix.cache.tables import Stream
from ngrammix.checks import (
    NotCopyable,
    as_bytes,
    as_token,
    as_tokens,
    check_capacity,
    check_order,
    check_threads,
    check_vocab_size,
)


class NgramCache(NotCopyable):
    """An exact streaming n-gram cache: every n-gram up to `order`, no hash ever trusted.

    Counts are Kneser-Ney's continuation counts, kept up as the tokens go by (update exclusion: an
    n-gram is counted only where the next longer one is new). `observe` says what was known before
    each token and then learns it; the same tokens in one call or in a thousand give the same bits.
    One thread at a time.

    Parameters
    ----------
    vocab_size : int >= 1
        V; token ids are in [0, V).
    order : int in 1..32
        Length of the longest n-gram, the predicted token included (KenLM's sense; PPM counts the
        context only, so its order 6 is our 7).
    memory_limit : int or str, optional
        Bytes, or text such as ``"2GiB"``, that the tables never exceed: the stalest n-grams are
        forgotten, and every sum still holds (forget.py). One call or a thousand forget the same.
        (Outside Linux, a table that grows is held twice for a moment.)
    n_threads : 1 or 2
        How many threads walk a call of many tokens. The bits are the same.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> cache = NgramCache(vocab_size=4, order=3)
    >>> evidence = cache.observe([0, 1, 2, 0, 1])
    >>> evidence.matched_order
    array([0, 1, 1, 1, 2])
    >>> cache.distribution([0, 1]).round(3)
    array([0.247, 0.113, 0.577, 0.063])
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        order: int = 7,
        memory_limit: int | str | None = None,
        n_threads: int = 1,
    ) -> None:
        order, vocab_size = check_order(order), check_vocab_size(vocab_size)
        limit = None if memory_limit is None else as_bytes(memory_limit)
        self._stream = Stream(order, vocab_size, limit, check_threads(n_threads))
        least = self._stream.budget.least
        if limit is not None and limit < least:
            raise ValueError(
                f"memory_limit must be at least {least} bytes at order {order}, got {limit}; "
                "raise it, or lower the order"
            )

    @property
    def order(self) -> int:
        """Length of the longest n-gram, the predicted token included."""
        return self._stream.order

    @property
    def vocab_size(self) -> int:
        """V: token ids are in [0, V)."""
        return self._stream.vocab_size

    @property
    def position(self) -> int:
        """How many tokens were learned."""
        return self._stream.position

    @property
    def _tables(self) -> tuple[Table, ...]:
        """The n-grams of 0, 1, ..., order tokens; to look at, not to touch."""
        return tuple(self._stream.tables)

    @property
    def memory_limit(self) -> int | None:
        """Bytes that `nbytes` never exceeds, or None."""
        return self._stream.budget.limit

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, indexes and buffers, in whole pages."""
        return self._stream.nbytes

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order,) float32 in (0, 1]: the absolute discount of each order now."""
        return self._stream.discounts

    def __len__(self) -> int:
        """Return the number of n-grams stored, of all orders, contexts never followed included."""
        return sum(len(table) for table in self._tables[1:])

    def __repr__(self) -> str:
        limit = "" if self.memory_limit is None else f", memory_limit={self.memory_limit}"
        return (
            f"NgramCache(order={self.order}, vocab_size={self.vocab_size}{limit}): "
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
        return self._observe(as_tokens(tokens, self.vocab_size))

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens that are not to be scored; takes and raises what `observe` does."""
        self._learn(as_tokens(tokens, self.vocab_size))

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        self._stream.boundary()

    def clear(self) -> None:
        """Forget everything, as if new; without a limit, the memory stays for the next stream."""
        self._stream.clear()

    def stats(self) -> dict[str, Any]:
        """What the cache holds and what it forgot, ready for JSON.

        Returns
        -------
        dict
            ``position``, tokens learned; ``ngrams``, stored now, of 1, 2, ..., order tokens;
            ``evicted``, the same of those evicted so far; ``n_evictions``, how often the cache was
            full; ``nbytes`` and ``memory_limit``, bytes.
        """
        return {
            "position": self.position,
            "ngrams": [len(table) for table in self._tables[1:]],
            "evicted": self._stream.forgotten[1:].tolist(),
            "n_evictions": int(self._stream.sweeps[0]),
            "nbytes": self.nbytes,
            "memory_limit": self.memory_limit,
        }

    def peek(self) -> Evidence:
        """Evidence of the one position to come; its token is not known: target_count is 0."""
        return self._stream.peek()

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
        check_capacity(self.position, 1)
        self._stream.update(context, token)

    def log_prob(self, context: ArrayLike, next_token: int) -> float:
        """Nats: the cache's own log-probability of `next_token` after `context`; as `update`."""
        context = self._checked_context(context)
        token = as_token(next_token, self.vocab_size)
        nodes = self._stream.walk(context)[:, -1]
        return float(np.log(self._stream.backoff(nodes, token)[0]))

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
            nodes = self._stream.nodes
        else:
            nodes = self._stream.walk(self._checked_context(context))[:, -1]
        return self._stream.backoff(nodes, np.arange(self.vocab_size), discount)

    def check(self) -> None:
        """Verify the tables: every sum that makes the estimators exact, every n-gram findable.

        RuntimeError if a context's followers are not the sum of its children's counts, its distinct
        followers not their number, its hint not a largest one, or an n-gram stored twice or lost.
        """
        try:
            check_tables(self._stream.tables, self._stream.counts_of_counts)
        except RuntimeError as error:
            text = f"{error}; this is a bug of ngrammix: please report it with the stream"
            raise RuntimeError(text) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file; the old one or the new one is there, whatever happens."""
        snapshot.write(Path(path), *self._state())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, n_threads: int = 1) -> Self:
        """Cache that goes on where the saved one stood, to the bit, within the same memory limit.

        Raises
        ------
        SnapshotError
            If the file is missing, no snapshot, of another version, cut short or altered, or if no
            stream can have had the state that it holds.
        """
        check_threads(n_threads)
        with snapshot.opened(Path(path)) as (values, arrays):
            return cls._from_state(values, arrays, n_threads=n_threads)

    def _state(self) -> snapshot.Contents:
        """What `save` writes: values, and arrays that are still in use."""
        names = ("order", "vocab_size", "memory_limit", "position")
        return {name: getattr(self, name) for name in names}, self._stream.state()

    @classmethod
    def _from_state(
        cls, values: dict[str, Any], arrays: dict[str, NDArray[Any]], *, n_threads: int = 1
    ) -> Self:
        """Cache of such parts; ValueError and the like if they are none."""
        position = values.pop("position")
        check_capacity(0, position)
        cache = cls(**values, n_threads=n_threads)
        cache._stream.restore(position, arrays)
        return cache

    def _observe(self, tokens: Tokens) -> Evidence:
        """`observe` for ids that are checked already."""
        check_capacity(self.position, len(tokens))
        evidence = Evidence.allocate(self.order, len(tokens))
        self._stream.learn(tokens, evidence)
        return evidence

    def _learn(self, tokens: Tokens) -> None:
        """`learn` for ids that are checked already."""
        check_capacity(self.position, len(tokens))
        self._stream.learn(tokens, None)

    def _checked_context(self, context: ArrayLike) -> Tokens:
        context = as_tokens(context, self.vocab_size, "context", may_be_empty=True)
        return context[len(context) - min(len(context), self.order - 1) :]
