"""Evidence: the counts at each position before its token was learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import count as kernel
from ngrammix.types import Counts, Tokens


@dataclass(frozen=True, eq=False)
class Evidence:
    """Counts before each of T tokens; row k of every array belongs to the context of k tokens.

    Every array but `target_count` depends on the earlier tokens alone, so a gate may be addressed
    by it. `age` can be above 0 for a context without followers: one that was last seen just before
    a boundary. All longer contexts have no followers either.

    Attributes
    ----------
    discounts : (order, T) float32, in (0, 1]
        Absolute discount of each order before the token.
    """

    _columns: Counts  # (order, T, 6): the counts below, side by side
    discounts: NDArray[np.float32]

    @classmethod
    def allocate(cls, order: int, n_tokens: int) -> Self:
        """Uninitialized evidence of `n_tokens` positions."""
        columns = np.empty((order, n_tokens, kernel.N_COLUMNS), np.uint32)
        return cls(columns, np.empty((order, n_tokens), np.float32))

    @classmethod
    def from_longest(cls, evidence: Sequence["Evidence"]) -> Self:
        """Evidence whose row k is the last row of evidence[k], all of the same T tokens."""
        return cls(
            np.stack([each._columns[-1] for each in evidence]),
            np.stack([each.discounts[-1] for each in evidence]),
        )

    def __len__(self) -> int:
        """Return T, the number of positions."""
        return int(self._columns.shape[1])

    @property
    def followers(self) -> Counts:
        """(order, T) uint32: n, the sum of the counts of all tokens after the context."""
        return self._columns[:, :, kernel.EVIDENCE_FOLLOWERS]

    @property
    def n_distinct(self) -> Counts:
        """(order, T) uint32: u, the number of distinct tokens counted after the context."""
        return self._columns[:, :, kernel.EVIDENCE_DISTINCT]

    @property
    def target_count(self) -> Counts:
        """(order, T) uint32: c, the count of the token that came; only this depends on it."""
        return self._columns[:, :, kernel.EVIDENCE_TARGET_COUNT]

    @property
    def hint(self) -> Counts:
        """(order, T) uint32: h, the most frequent follower; a tie goes to the latest counted."""
        return self._columns[:, :, kernel.EVIDENCE_HINT]

    @property
    def hint_count(self) -> Counts:
        """(order, T) uint32: the count of the hint."""
        return self._columns[:, :, kernel.EVIDENCE_HINT_COUNT]

    @property
    def age(self) -> Counts:
        """(order, T) uint32: tokens since the context was last seen; 0 if never, and for k = 0."""
        return self._columns[:, :, kernel.EVIDENCE_AGE]

    @property
    def matched_order(self) -> Tokens:
        """(T,) int64: order of the longest n-grams whose context has followers.

        The predicted token is included: 1 if only the empty context has followers, 0 if nothing
        was learned before.
        """
        matched: Tokens = (self.followers > 0).sum(axis=0, dtype=np.int64)
        return matched
