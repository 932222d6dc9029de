"""check() finds every kind of damage that it claims to look for."""

import numpy as np
import pytest

from ngrammix import NgramCache
from ngrammix.kernels import index

TOKENS = [1, 2, 3, 1, 2, 4, 1, 2, 3]


def learned():
    """A cache of order 3, and its n-grams of each length that are open, and that occurred once."""
    cache = NgramCache(vocab_size=9, order=3)
    cache.learn(TOKENS)
    cache.check()
    opened, once = {}, {}
    for m, table in enumerate(cache._store.tables):
        rows = table.list_rows()
        is_open = table.rows[rows, index.LAST_SEEN] >= index.OPEN
        opened[m], once[m] = rows[is_open], rows[~is_open]
    return cache, opened, once


@pytest.mark.parametrize(
    ("order", "row", "column", "verdict"),
    [
        (1, 0, index.FOLLOWERS, "followers is not the sum of counts"),
        (2, 1, index.DISTINCT, "distinct is not the number of counts above 0"),
        (1, 0, index.HINT_COUNT, "hint_count is not the largest count"),
        (1, 0, index.HINT, "the hint's count is not hint_count"),
    ],
)
def test_damage_of_a_context_is_found(order, row, column, verdict):
    cache, opened, _ = learned()
    cache._store.tables[order].rows[opened[order][row] + 1, column] += 1
    with pytest.raises(RuntimeError, match=f"broken table: {verdict}, row .* please report it"):
        cache.check()


@pytest.mark.parametrize(
    ("order", "is_open", "column", "verdict"),
    [
        (3, True, index.FIRST, "an n-gram is not found under its key"),
        (3, True, index.COUNT, "followers is not the sum of counts"),
        (3, False, index.COUNT, "an n-gram that occurred once has counts"),
    ],
)
def test_damage_of_an_ngram_is_found(order, is_open, column, verdict):
    cache, opened, once = learned()
    row = (opened if is_open else once)[order][0]
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
    cache, _, _ = learned()
    cache._store.tables[2].slots[:] = 0
    with pytest.raises(RuntimeError, match="an n-gram is not found under its key"):
        cache.check()


@pytest.mark.parametrize(
    ("order", "is_open", "last_seen", "verdict"),
    [
        (3, False, 70, "an n-gram of the stream is not where it occurred"),
        (3, False, index.OPEN | 68, "counts of counts are wrong"),
        (3, True, 72, "an n-gram that occurred once has counts"),
    ],
)
def test_an_ngram_that_occurred_elsewhere_is_found(order, is_open, last_seen, verdict):
    cache, opened, once = learned()
    row = (opened if is_open else once)[order][0]
    cache._store.tables[order].rows[row, index.LAST_SEEN] = last_seen
    with pytest.raises(RuntimeError, match=f"broken table: .*{verdict}"):
        cache.check()


def test_an_ngram_under_a_suffix_that_occurred_once_is_found():
    cache, opened, _ = learned()
    table = cache._store.tables[2]
    table.rows[opened[2], index.LAST_SEEN :] = 0
    table.rows[opened[2] + 1, index.SUFFIX] = index.NONE  # its second unit, read as a first one
    with pytest.raises(RuntimeError, match="the suffix of an n-gram is not open"):
        cache.check()


def test_a_token_of_the_stream_that_changed_is_found():
    cache, _, _ = learned()
    cache._store.stream.words[2] += 1
    with pytest.raises(RuntimeError, match="broken table"):
        cache.check()
