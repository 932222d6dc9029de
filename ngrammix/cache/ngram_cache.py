"""NgramCache: exact counts of all n-grams of a stream, with the evidence before each token."""

import os
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import snapshot
from ngrammix.cache import eviction, pipeline
from ngrammix.cache.evidence import Evidence, Segment, Segments
from ngrammix.cache.integrity import check_state, check_store
from ngrammix.cache.kneser_ney import token_probabilities
from ngrammix.cache.memory_limit import MemoryLimit
from ngrammix.cache.pipeline import ROWS_A_TOKEN, Chunk, TwoThreadPipeline
from ngrammix.cache.store import NgramStore
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
from ngrammix.exclusive import Guard, exclusive
from ngrammix.kernels.evidence import N_COLUMNS
from ngrammix.kernels.evidence import discount as discount_of
from ngrammix.kernels.index import BEFORE_FIRST, NONE
from ngrammix.types import Floats, StateDict, Tokens


@exclusive("_guard", midway=("discounts", "stats", "clear"), free=("nbytes", "position", "__len__"))
class NgramCache(NotCopyable):
    """Exact counts of every n-gram of a stream up to `order`; no hash is ever trusted.

    Counts are Kneser-Ney's continuation counts, kept up to date by update exclusion: an n-gram is
    counted only where the next longer one is new. `observe` returns the counts before each token
    and then counts the token. One call or many calls on the same tokens give the same bits. One
    thread at a time: a call in a second one is a ValueError, and changes nothing. (`position`,
    `nbytes` and the length can be read in any thread.)

    Parameters
    ----------
    vocab_size : int >= 1
        V; token ids are in [0, V).
    order : int in 1..64
        Length of the longest n-gram, the predicted token included (as in KenLM; PPM counts the
        context only, so its order 6 is order 7 here). Raw bytes gain from 24 and more.
    memory_limit : int or str, optional
        Bytes, or text such as ``"2GiB"``, that the tables never exceed: the least recently used
        n-grams are evicted, and every sum stays exact (cache/eviction.py). What is evicted does not
        depend on how the stream is cut into calls. (An eviction takes up to a quarter more while it
        lasts. Outside Linux, a table that grows is briefly held twice.)
    n_threads : 1 or 2
        Threads for a call of many tokens. The bits are the same.

    Attributes
    ----------
    position : int
        Number of tokens learned.

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
        self.vocab_size = check_vocab_size(vocab_size)
        self.order = check_order(order)
        self.memory_limit = None if memory_limit is None else as_bytes(memory_limit)
        self._guard = Guard()

        self._store = NgramStore(self.order)
        self._n_evictions = np.zeros(1, np.int64)
        self._n_evicted = np.zeros(self.order + 1, np.int64)

        # Buffers are counted as for two threads, so that one and two threads evict the same.
        bytes_a_token = pipeline.MAX_IN_FLIGHT * Chunk.bytes_a_token(self.order)
        self._limit = MemoryLimit(
            self._store, self.memory_limit, pipeline.CHUNK_SIZE, bytes_a_token
        )
        if self.memory_limit is not None and self.memory_limit < self._limit.minimum:
            raise ValueError(
                f"memory_limit must be at least {self._limit.minimum} bytes at order {self.order}, "
                f"got {self.memory_limit}; raise it, or lower the order"
            )
        n_chunks = pipeline.MAX_IN_FLIGHT if check_threads(n_threads) > 1 else 1
        self._buffers = [Chunk(self.order, self._limit.chunk_size) for _ in range(n_chunks)]
        self._pipeline = TwoThreadPipeline(self._store)

    @property
    def nbytes(self) -> int:
        """Bytes of all tables, indexes and buffers, in whole pages."""
        return self._limit.nbytes_with(self._store, 0, 0)

    @property
    def position(self) -> int:
        """Number of tokens of the stream learned so far."""
        return self._store.stream.stop

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order,) float32 in (0, 1]: the current absolute discount of each order."""
        return np.array(
            [discount_of(*counts) for counts in self._store.counts_of_counts], np.float32
        )

    def __len__(self) -> int:
        """Return the number of n-grams that have a row, of all orders.

        Those are the n-grams whose suffix occurred more than once; all others are in the stream.
        """
        return len(self._store)

    def __repr__(self) -> str:
        limit = "" if self.memory_limit is None else f", memory_limit={self.memory_limit}"
        return (
            f"NgramCache(vocab_size={self.vocab_size}, order={self.order}{limit}): "
            f"{self.position:,} tokens, {len(self):,} n-grams, {self.nbytes:,} bytes"
        )

    def observe(self, tokens: ArrayLike) -> Evidence:
        """Counts before each token, from earlier tokens alone; then the tokens are learned.

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
            If tokens are not 1-D integers in [0, V), or empty. Then nothing is learned.
        MemoryError
            If the tables cannot grow. The first tokens may have been learned. With two threads, the
            cache refuses further calls: load the last snapshot.
        """
        return self._observe(as_tokens(tokens, self.vocab_size))

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens without evidence; parameters and errors are those of `observe`."""
        self._learn(as_tokens(tokens, self.vocab_size))

    def boundary(self) -> None:
        """Begin a new document: contexts do not reach back over this point."""
        self._store.boundary()

    def clear(self) -> None:
        """Return to the state of a new cache; without a limit, the memory is kept for reuse."""
        with self._guard.changing():
            self._store.clear(keeps_pages=self.memory_limit is None)
            self._n_evictions[:] = self._n_evicted[:] = 0
        self._guard.n_unfinished = 0

    def stats(self) -> dict[str, Any]:
        """Sizes and evictions, ready for JSON.

        Returns
        -------
        dict
            ``position``, tokens learned; ``ngrams``, n-grams of 1, 2, ..., order tokens that have
            a row; ``evicted``, the same of those evicted so far; ``n_evictions``, how many times
            the cache was full; ``nbytes`` and ``memory_limit``, bytes.
        """
        return {
            "position": self.position,
            "ngrams": [len(table) for table in self._store.tables[1:]],
            "evicted": self._n_evicted[1:].tolist(),
            "n_evictions": int(self._n_evictions[0]),
            "nbytes": self.nbytes,
            "memory_limit": self.memory_limit,
        }

    def peek(self) -> Evidence:
        """Evidence of the next position; its token is unknown, so target_count is 0."""
        store = self._store
        longest = min(int(store.n_open[0]), self.order - 1)
        entries = np.empty((longest + 1, N_COLUMNS), np.uint32)
        for k, end in enumerate(store.ends[: longest + 1].tolist()):
            counts = store.tables[k].rows[(end & NONE) + 1]
            last_seen = end >> 32
            age = self.position + BEFORE_FIRST - last_seen if last_seen > 0 else 0
            entries[k] = *counts, 0, age, *store.counts_of_counts[k]
        # As if no token had come: where there is a context, a new one would be counted once.
        n_context, after = store.stream.n_context, store.counts_of_counts.copy()
        after[longest + 1 : n_context + 1, 0] += 1
        depth = np.array([longest], np.uint8)
        starts = np.minimum(np.arange(self.order + 1, dtype=np.int64), longest + 1)
        return Evidence([Segment(0, depth, starts, entries, n_context, after)])

    def update(self, context: ArrayLike, next_token: int) -> None:
        """Count one n-gram apart from the stream: `next_token` after each suffix of `context`.

        The stream's own context does not move. Updating the tokens of a stream one by one, each
        after all tokens before it, leaves the same counts as one `learn`.

        Parameters
        ----------
        context : (C,) int
            The tokens before; only the last ``order - 1`` are used, and C may be 0.
        next_token : int
            The token that followed.

        Raises
        ------
        ValueError
            If an id is not an integer in [0, V).
        """
        context = self._as_context(context)
        token = as_token(next_token, self.vocab_size)
        check_capacity(self.position + int(self._store.n_updates[0]), 1)
        self._make_room()
        with self._guard.changing():
            self._store.update(np.append(context, token))
        self._make_room()

    def log_prob(self, context: ArrayLike, next_token: int) -> float:
        """The cache's own log-probability of `next_token` after `context`, in nats.

        Parameters and errors are those of `update`.
        """
        context = self._as_context(context)
        token = as_token(next_token, self.vocab_size)
        size, discounts = self.vocab_size, self.discounts.tolist()
        return float(np.log(token_probabilities(self._store, context, token, discounts, size)[0]))

    def distribution(
        self, context: ArrayLike | None = None, *, discount: float | None = None
    ) -> Floats:
        """Probability of every next token: (V,) float64, each > 0, sum 1.

        Parameters
        ----------
        context : (C,) int, optional
            The tokens before; only the last ``order - 1`` are used. By default the stream's own
            context.
        discount : float in (0, 1), optional
            One absolute discount for all orders. By default `discounts`, learned from the counts.

        Raises
        ------
        ValueError
            If an id is not an integer in [0, V), or the discount is not in (0, 1).
        """
        if discount is not None and not 0 < np.float32(discount) < 1:
            raise ValueError(f"discount must be in (0, 1), got {discount}; or leave it out")
        if context is None:
            context = self._store.stream.context(self.order - 1)
        else:
            context = self._as_context(context)
        discounts = self.discounts
        if discount is not None:
            discounts[:] = discount
        tokens, size = np.arange(self.vocab_size), self.vocab_size
        return token_probabilities(self._store, context, tokens, discounts.tolist(), size)

    def check(self) -> None:
        """Verify the tables: every sum that makes the estimators exact, and every index entry.

        Raises
        ------
        RuntimeError
            If the followers of a context are not the sum of its n-grams' counts, its distinct
            followers not their number, its hint not one of the largest count, or an n-gram is not
            found under its key.
        """
        try:
            check_store(self._store)
        except RuntimeError as error:
            text = f"{error}; this is a bug of ngrammix: please report it with the stream"
            raise RuntimeError(text) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file, which is replaced whole or not at all."""
        snapshot.write(Path(path), *self._state())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, n_threads: int = 1) -> Self:
        """Cache that continues where the saved one stopped, with the same bits and memory limit.

        Raises
        ------
        SnapshotError
            If the file is missing, not a snapshot, of another version, truncated or altered, or if
            no stream can lead to its state.
        """
        check_threads(n_threads)
        with snapshot.opened(Path(path)) as (values, arrays):
            return cls._from_state(values, arrays, n_threads=n_threads)

    def _state(self) -> snapshot.Contents:
        """(values, arrays) that `save` writes; the arrays are still in use."""
        values = {
            "order": self.order,
            "vocab_size": self.vocab_size,
            "memory_limit": self.memory_limit,
            "position": self.position,
        }
        arrays = self._store.state_dict()
        arrays |= {"sweeps": self._n_evictions, "forgotten": self._n_evicted}
        return values, arrays

    @classmethod
    def _from_state(cls, values: dict[str, Any], arrays: StateDict, *, n_threads: int = 1) -> Self:
        """Cache with the state that `_state` returned; tables are taken out of `arrays`.

        ValueError or RuntimeError unless every address and every sum is valid.
        """
        snapshot.check_names(values, ("order", "vocab_size", "memory_limit", "position"))
        position = values.pop("position")
        cache = cls(**values, n_threads=n_threads)
        check_state(cache._state()[1], arrays, cache.vocab_size, position)
        cache._n_evictions[:], cache._n_evicted[:] = arrays["sweeps"], arrays["forgotten"]
        cache._store.load_state_dict(arrays, position=position)
        check_store(cache._store)
        return cache

    def _observe(self, tokens: Tokens) -> Evidence:
        """`observe` for ids that are checked already."""
        segments = Segments(len(tokens))
        self._walk_blocks(tokens, segments)
        return Evidence(segments.done)

    def _learn(self, tokens: Tokens) -> None:
        """`learn` for ids that are checked already."""
        self._walk_blocks(tokens, None)

    def _walk_blocks(self, tokens: Tokens, segments: Segments | None) -> None:
        """Learn tokens (T,), in blocks between two checks of the memory limit.

        Their evidence is appended to `segments`, if any.
        """
        check_capacity(self.position + int(self._store.n_updates[0]), len(tokens))
        start = 0
        while start < len(tokens):
            stop = min(len(tokens), start + self._make_room())
            self._walk_block(tokens[:stop], segments, start)
            start = stop
        self._make_room()  # evict now, so that `peek` sees what the next token will meet

    def _walk_block(self, tokens: Tokens, segments: Segments | None, start: int) -> None:
        """Learn tokens[start:], for which there is room."""
        n_tokens, size = len(tokens) - start, self._limit.chunk_size
        if self._can_use_two_threads(n_tokens):
            sizes = pipeline.pipeline_chunk_sizes(n_tokens, size)
            with self._guard.changing():
                self._pipeline.run(self._chunks(tokens, segments, start, sizes))
            return
        sizes, orders = pipeline.chunk_sizes(n_tokens, size), range(1, self.order + 1)
        for chunk in self._chunks(tokens, segments, start, sizes):
            with self._guard.changing(harmless=(MemoryError,)):  # a larger index is filled anew
                chunk.reserve(self._store, orders)
            with self._guard.changing():
                chunk.find(self._store, orders)
                chunk.count(self._store, range(self.order))
            chunk.hand_over()

    def _chunks(
        self, tokens: Tokens, segments: Segments | None, start: int, sizes: Iterable[int]
    ) -> Iterator[Chunk]:
        """Chunks of these sizes from tokens[start] on, in the work buffers by turns."""
        for chunk, size in zip(cycle(self._buffers), sizes, strict=False):
            yield chunk.begin(tokens[start : start + size], self._store, segments, start)
            start += size

    def _can_use_two_threads(self, n_tokens: int) -> bool:
        """Whether two threads may walk `n_tokens`: writes would be lost if a table moved."""
        is_worth_it = len(self._buffers) > 1 and n_tokens > self._limit.chunk_size
        return is_worth_it and self._store.grows_in_place(
            n_tokens, pipeline.ROWS_A_TOKEN * n_tokens
        )

    def _make_room(self) -> int:
        """Make room up to the next check of the limit, and return how many tokens that is.

        Evicts if necessary. The room includes what one `update` adds.
        """
        n_tokens = self._limit.block_size - self.position % self._limit.block_size
        n_rows = 2 * self.order
        if self.memory_limit is not None:
            n_rows += ROWS_A_TOKEN * n_tokens
            kept_bytes = self._store.content_bytes
            while kept_bytes > 0 and not self._limit.has_room(self._store, n_tokens, n_rows):
                kept_bytes = int(eviction.KEPT_FRACTION * kept_bytes)
                with self._guard.changing():
                    cutoff = eviction.horizon(self._store, kept_bytes)
                    self._n_evicted += eviction.evict(self._store, cutoff)
                    self._n_evictions += 1
        with self._guard.changing(harmless=(MemoryError,)):  # a larger index is filled anew
            self._store.reserve(0, n_rows)
        return n_tokens

    def _as_context(self, context: ArrayLike) -> Tokens:
        """The last ``order - 1`` ids of a context, checked."""
        context = as_tokens(context, self.vocab_size, "context", may_be_empty=True)
        return context[len(context) - min(len(context), self.order - 1) :]
