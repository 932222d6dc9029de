"""Evidence: the counts at each position before its token was learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import evidence as kernel
from ngrammix.types import Counts, Tokens

BLOCK_SIZE = 28 << 15  # entries of a block of memory, at most: 28 MiB
MARGIN = 8  # a block has room for 1 / MARGIN more entries than it should need
NO_ENTRIES = np.empty((0, kernel.N_COLUMNS), np.uint32)


class Segment(NamedTuple):
    """The counts before each of T tokens that were learned together, a part of a call.

    Only contexts that occurred before take memory: entries[starts[k] : starts[k + 1]] are those of
    order k, one for each position with `depth` of k or more, in the order of the positions.
    """

    start: int  # first position
    depth: NDArray[np.uint8]  # (T,): length of the longest context that occurred before
    starts: NDArray[np.int64]  # (order + 1,)
    entries: Counts  # (N, 8): the columns of kernels/evidence.py
    n_context: int  # tokens since the boundary, before the first position
    counts_of_counts: NDArray[np.int64]  # (order, 2): n-grams counted once, and twice, at the end

    @property
    def place(self) -> slice:
        """The positions."""
        return slice(self.start, self.start + len(self.depth))

    def entries_of(self, k: int) -> Counts:
        """(N, 8) uint32: the entries of the contexts of k tokens."""
        return self.entries[self.starts[k] : self.starts[k + 1]]


class Segments:
    """The segments of the T tokens of a call, as they are learned.

    Segments share blocks of memory, because malloc keeps few freed bytes for reuse: in glibc, twice
    as many as the largest block that was freed, and never a block of 32 MiB. What it gives back to
    the system comes anew page by page, each filled with zeros first.

    Parameters
    ----------
    n_tokens : int
        T.

    Attributes
    ----------
    done : list of Segment
        Those that are complete.
    """

    def __init__(self, n_tokens: int) -> None:
        self.done: list[Segment] = []
        self._n_left = n_tokens
        self._room = NO_ENTRIES

    def allocate(
        self,
        start: int,
        n_tokens: int,
        known: NDArray[np.uint8],
        n_places: NDArray[np.int64],
        n_context: int,
    ) -> Segment:
        """The next segment, of N tokens; its entries and counts are to be written.

        known (N + 1 or more,) and n_places (order + 1,): what kernels/find.py found.
        """
        depth, starts = np.empty(n_tokens, np.uint8), np.empty(len(n_places), np.int64)
        n = kernel.lay_out(known, n_places, depth, starts)
        self._n_left -= n_tokens
        room = self._room
        if n > len(room):
            n_ahead = n * self._n_left // n_tokens  # if the rest is like these
            size = max(n, min(n + n_ahead + n_ahead // MARGIN, BLOCK_SIZE))
            room = np.empty((size, kernel.N_COLUMNS), np.uint32)
        if self._n_left > 0:
            self._room = room[n:]
        counts_of_counts = np.empty((len(n_places) - 1, 2), np.int64)
        return Segment(start, depth, starts, room[:n], n_context, counts_of_counts)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Counts before each of T tokens; row k of every array belongs to the context of k tokens.

    Every array but `target_count` depends on the earlier tokens alone, so a gate may be addressed
    by it. `age` can be above 0 for a context without followers: one that was last seen just before
    a boundary. All longer contexts have no followers either.

    The arrays (order, T) are made of the segments when they are asked for.
    """

    _segments: Sequence[Segment]  # one at least, in the order of the positions
    _discounts: NDArray[np.float32] | None = None  # (order, T), if they do not follow from these

    @classmethod
    def from_longest(cls, evidence: Sequence["Evidence"]) -> Self:
        """Evidence whose row k is the last row of evidence[k], all of the same T tokens.

        evidence[k] is of order k + 1.
        """
        longest = [
            np.concatenate([part.entries_of(k) for part in each._segments])
            for k, each in enumerate(evidence)
        ]
        last = evidence[-1]._segments
        segment = last[0]._replace(
            depth=np.concatenate([part.depth for part in last]),
            starts=np.cumsum([0, *map(len, longest)], dtype=np.int64),
            entries=np.concatenate(longest),
        )
        return cls([segment], np.stack([each.discounts[-1] for each in evidence]))

    def __len__(self) -> int:
        """Return T, the number of positions."""
        return sum(len(part.depth) for part in self._segments)

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
        discounts = np.empty((self._order, len(self)), np.float32)
        for part in self._segments:
            kernel.spread_discounts(
                part.entries, part.starts, part.depth, part.n_context, part.counts_of_counts,
                discounts[:, part.place],
            )  # fmt: skip
        return discounts

    @property
    def matched_order(self) -> Tokens:
        """(T,) int64: order of the longest n-grams whose context has followers.

        The predicted token is included: 1 if only the empty context has followers, 0 if nothing
        was learned before.
        """
        matched = np.empty(len(self), np.int64)
        for part in self._segments:
            kernel.find_matched(part.entries, part.starts, part.depth, matched[part.place])
        return matched

    @property
    def is_repeat(self) -> NDArray[np.bool_]:
        """(T,) bool: whether the n-gram of `order` tokens that ends with the token was counted."""
        is_repeat, longest = np.zeros(len(self), np.bool_), self._order - 1
        for part in self._segments:
            counts = part.entries_of(longest)[:, kernel.TARGET_COUNT]
            is_repeat[part.place][part.depth == longest] = counts > 0
        return is_repeat

    @property
    def _order(self) -> int:
        """Length of the longest n-gram."""
        return len(self._segments[0].starts) - 1

    @property
    def _n_entries(self) -> NDArray[np.int64]:
        """(order,): positions whose context of each order occurred before."""
        n_entries: NDArray[np.int64] = np.diff([part.starts for part in self._segments]).sum(axis=0)
        return n_entries

    @property
    def _columns(self) -> Counts:
        """(order, T, 6) uint32: all counts side by side."""
        counts = self.followers, self.n_distinct, self.target_count, self.hint, self.hint_count
        return np.stack([*counts, self.age], axis=2)

    def _dense(self, column: int) -> Counts:
        """(order, T) uint32: one column at every position; 0 for contexts that are new."""
        dense = np.zeros((self._order, len(self)), np.uint32)
        for part in self._segments:
            for k, row in enumerate(dense[:, part.place]):
                row[part.depth >= k] = part.entries_of(k)[:, column]
        return dense
