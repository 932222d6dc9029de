"""Evidence: the counts at each position before its token was learned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import evidence as kernel
from ngrammix.types import Counts, Tokens


class Segment(NamedTuple):
    """Positions that were learned together, from the end of the segment before to `stop`."""

    stop: int
    n_context: int  # tokens since the boundary, before the first position
    counts_of_counts: NDArray[np.int64]  # (order, 2): n-grams counted once, and twice, at `stop`


@dataclass(frozen=True, eq=False)
class Evidence:
    """Counts before each of T tokens; row k of every array belongs to the context of k tokens.

    Every array but `target_count` depends on the earlier tokens alone, so a gate may be addressed
    by it. `age` can be above 0 for a context without followers: one that was last seen just before
    a boundary. All longer contexts have no followers either.

    Only contexts that occurred before take memory: `_entries` has a row for each order, and there
    an entry for each position with `_depth` of that order or more, in the order of the positions.
    The arrays (order, T) are made when they are asked for.
    """

    _entries: Counts  # (order, >= T, 8): the columns of kernels/evidence.py
    _n_entries: NDArray[np.int64]  # (order,): entries in use
    _depth: NDArray[np.uint8]  # (T,): length of the longest context that occurred before
    _segments: list[Segment] = field(default_factory=list)
    _discounts: NDArray[np.float32] | None = None  # (order, T), if they do not follow from these

    @classmethod
    def allocate(cls, order: int, n_tokens: int) -> Self:
        """Evidence of `n_tokens` positions without entries; the memory is not initialized."""
        entries = np.empty((order, n_tokens, kernel.N_COLUMNS), np.uint32)
        return cls(entries, np.zeros(order, np.int64), np.zeros(n_tokens, np.uint8))

    @classmethod
    def from_longest(cls, evidence: Sequence["Evidence"]) -> Self:
        """Evidence whose row k is the last row of evidence[k], all of the same T tokens.

        evidence[k] is of order k + 1.
        """
        longest = evidence[-1]
        entries = np.empty_like(longest._entries)
        for k, each in enumerate(evidence):
            n = each._n_entries[-1]
            entries[k, :n] = each._entries[-1, :n]
        discounts = np.stack([each.discounts[-1] for each in evidence])
        return cls(entries, longest._n_entries, longest._depth, [], discounts)

    def __len__(self) -> int:
        """Return T, the number of positions."""
        return len(self._depth)

    @property
    def followers(self) -> Counts:
        """(order, T) uint32: n, the sum of the counts of all tokens after the context."""
        return self._dense(kernel.FOLLOWERS)

    @property
    def n_distinct(self) -> Counts:
        """(order, T) uint32: u, the number of distinct tokens counted after the context."""
        return self._dense(kernel.DISTINCT)

    @property
    def target_count(self) -> Counts:
        """(order, T) uint32: c, the count of the token that came; only this depends on it."""
        return self._dense(kernel.TARGET_COUNT)

    @property
    def hint(self) -> Counts:
        """(order, T) uint32: h, the most frequent follower; a tie goes to the latest counted."""
        return self._dense(kernel.HINT)

    @property
    def hint_count(self) -> Counts:
        """(order, T) uint32: the count of the hint."""
        return self._dense(kernel.HINT_COUNT)

    @property
    def age(self) -> Counts:
        """(order, T) uint32: tokens since the context was last seen; 0 if never, and for k = 0."""
        return self._dense(kernel.AGE)

    @property
    def discounts(self) -> NDArray[np.float32]:
        """(order, T) float32 in (0, 1]: absolute discount of each order before the token."""
        if self._discounts is not None:
            return self._discounts
        discounts = np.empty((len(self._entries), len(self)), np.float32)
        start, n_before = 0, np.zeros(len(self._entries), np.int64)
        for stop, n_context, counts_of_counts in self._segments:
            kernel.spread_discounts(
                self._entries, self._depth[start:stop], n_before, n_context, counts_of_counts,
                discounts[:, start:stop],
            )  # fmt: skip
            start = stop
        return discounts

    @property
    def matched_order(self) -> Tokens:
        """(T,) int64: order of the longest n-grams whose context has followers.

        The predicted token is included: 1 if only the empty context has followers, 0 if nothing
        was learned before.
        """
        matched = np.empty(len(self), np.int64)
        kernel.find_matched(self._entries, self._depth, matched)
        return matched

    @property
    def is_repeat(self) -> NDArray[np.bool_]:
        """(T,) bool: whether the n-gram of `order` tokens that ends with the token was counted."""
        longest = len(self._entries) - 1
        counts = self._entries[longest, : self._n_entries[longest], kernel.TARGET_COUNT]
        is_repeat: NDArray[np.bool_] = self._depth == longest
        is_repeat[is_repeat] = counts > 0
        return is_repeat

    @property
    def _columns(self) -> Counts:
        """(order, T, 6) uint32: all counts side by side."""
        counts = self.followers, self.n_distinct, self.target_count, self.hint, self.hint_count
        return np.stack([*counts, self.age], axis=2)

    def _dense(self, column: int) -> Counts:
        """(order, T) uint32: one column at every position; 0 for contexts that are new."""
        dense = np.zeros((len(self._entries), len(self)), np.uint32)
        for k, (entries, n) in enumerate(zip(self._entries, self._n_entries, strict=True)):
            dense[k, self._depth >= k] = entries[:n, column]
        return dense
