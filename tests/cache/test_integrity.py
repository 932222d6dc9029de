"""check() finds every kind of damage that it claims to look for."""

import numpy as np
import pytest

from ngrammix import NgramCache
from ngrammix.kernels import find


@pytest.mark.parametrize(
    ("order", "row", "column", "verdict"),
    [
        (1, 0, find.FOLLOWERS, "followers is not the sum of counts"),
        (2, 0, find.DISTINCT, "distinct is not the number of counts above 0"),
        (1, 0, find.HINT_COUNT, "hint_count is not the largest count"),
        (1, 0, find.HINT, "the hint's count is not hint_count"),
        (3, 3, find.TOKEN, "an n-gram is not found under its key"),
        (3, 0, find.COUNT, "followers is not the sum of counts"),
    ],
)
def test_damage_is_found(order, row, column, verdict):
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    cache.check()
    cache._tables[order].rows[row, column] += 1
    with pytest.raises(RuntimeError, match=f"broken table: {verdict}, row .* please report it"):
        cache.check()


def test_damaged_counts_of_counts_are_found():
    cache = NgramCache(vocab_size=9, order=2)
    cache.learn(np.arange(9))
    cache._counts_of_counts[1, 0] += 1
    with pytest.raises(RuntimeError, match="counts of counts are wrong"):
        cache.check()
