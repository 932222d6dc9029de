"""Evidence: what the cache knew at each position before its token came."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import count as kernel

Counts = NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the strict prefix says about each of T tokens; row k is the context of k tokens.

    Everything but `target_count` depends on the tokens before the position alone, so a gate may be
    addressed by it. Where a context has no followers, `age` may still say that it was seen (before
    a boundary); every longer context has no followers either.

    Attributes
    ----------
    _columns : (order, T, 6) uint32
        The six columns below.
    discounts : (order, T) float32, in (0, 1]
        Absolute discount of each order at that moment.
    """

    _columns: Counts
    discounts: NDArray[np.float32]

    @classmethod
    def allocate(cls, order: int, n_tokens: int) -> "Evidence":
        """Evidence with room for `n_tokens`, not yet written."""
        fields = np.empty((order, n_tokens, kernel.N_FIELDS), np.uint32)
        return cls(fields, np.empty((order, n_tokens), np.float32))

    @classmethod
    def from_longest(cls, evidence: Sequence["Evidence"]) -> "Evidence":
        """Evidence whose row k is the row of the longest contexts of evidence[k]."""
        return cls(
            np.stack([piece._columns[-1] for piece in evidence]),
            np.stack([piece.discounts[-1] for piece in evidence]),
        )

    def __len__(self) -> int:
        """Return the number of positions."""
        return int(self._columns.shape[1])

    @property
    def followers(self) -> Counts:
        """(order, T): n, how many counts the context has; the sum over its followers."""
        return self._columns[:, :, kernel.SEEN_FOLLOWERS]

    @property
    def n_distinct(self) -> Counts:
        """(order, T): u, how many different tokens were counted after the context."""
        return self._columns[:, :, kernel.SEEN_DISTINCT]

    @property
    def target_count(self) -> Counts:
        """(order, T): c, the count of the token that came; the only field that sees the target."""
        return self._columns[:, :, kernel.SEEN_TARGET_COUNT]

    @property
    def hint(self) -> Counts:
        """(order, T): h, the most frequent follower; of equals, the one counted last."""
        return self._columns[:, :, kernel.SEEN_HINT]

    @property
    def hint_count(self) -> Counts:
        """(order, T): the hint's count."""
        return self._columns[:, :, kernel.SEEN_HINT_COUNT]

    @property
    def age(self) -> Counts:
        """(order, T): tokens since the context was last seen; 0 if never, and for the empty one."""
        return self._columns[:, :, kernel.SEEN_AGE]

    @property
    def matched_order(self) -> NDArray[np.int64]:
        """(T,) int64: length of the longest n-gram that can answer, the predicted token included.

        1 if only the empty context has followers, 0 if nothing was learned before.
        """
        matched: NDArray[np.int64] = (self.followers > 0).sum(axis=0, dtype=np.int64)
        return matched
