"""check() finds every kind of damage that it claims to look for."""

import numpy as np
import pytest

from ngrammix import NgramCache
from ngrammix.kernels import index


@pytest.mark.parametrize(
    ("order", "row", "column", "verdict"),
    [
        (1, 0, index.FOLLOWERS, "followers is not the sum of counts"),
        (2, 1, index.DISTINCT, "distinct is not the number of counts above 0"),
        (1, 0, index.HINT_COUNT, "hint_count is not the largest count"),
        (1, 0, index.HINT, "the hint's count is not hint_count"),
        (3, 2, index.FIRST, "an n-gram is not found under its key"),
        (3, 2, index.COUNT, "followers is not the sum of counts"),
        (3, 0, index.COUNT, "an n-gram that occurred once has counts"),
    ],
)
def test_damage_is_found(order, row, column, verdict):
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    cache.check()
    cache._store.tables[order].rows[row, column] += 1
    with pytest.raises(RuntimeError, match=f"broken table: {verdict}, row .* please report it"):
        cache.check()


def test_damaged_counts_of_counts_are_found():
    cache = NgramCache(vocab_size=9, order=2)
    cache.learn(np.arange(9))
    cache._store.counts_of_counts[1, 0] += 1
    with pytest.raises(RuntimeError, match="counts of counts are wrong"):
        cache.check()


def test_an_index_that_lost_an_ngram_is_found():
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    cache._store.tables[2].slots[:] = 0
    with pytest.raises(RuntimeError, match="an n-gram is not found under its key"):
        cache.check()


@pytest.mark.parametrize(
    ("order", "row", "last_seen", "verdict"),
    [
        (3, 0, 70, "an n-gram of the stream is not where it occurred"),
        (2, 0, index.OPEN | 68, "an n-gram of the stream is not where it occurred"),
        (1, 1, 72, "an n-gram that occurred once has counts"),
    ],
)
def test_an_ngram_that_occurred_elsewhere_is_found(order, row, last_seen, verdict):
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    cache._store.tables[order].rows[row, index.LAST_SEEN] = last_seen
    with pytest.raises(RuntimeError, match=f"broken table: .*{verdict}"):
        cache.check()


def test_an_ngram_under_a_suffix_that_occurred_once_is_found():
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    row = cache._store.tables[2].rows[1]
    row[index.LAST_SEEN :] = 0
    with pytest.raises(RuntimeError, match="the suffix of an n-gram is not open"):
        cache.check()


def test_a_token_of_the_stream_that_changed_is_found():
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn([1, 2, 3, 1, 2, 4, 1, 2, 3])
    cache._store.stream.words[2] += 1
    with pytest.raises(RuntimeError, match="broken table"):
        cache.check()
