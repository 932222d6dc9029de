"""Prefetcher: the same evidence as without it, errors in their place, nothing left running."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import NgramCache, Prefetcher


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_evidence_is_that_of_observe(tokens, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {0, len(tokens)})
    pieces = [tokens[start:stop] for start, stop in pairwise(cuts)]
    ahead, behind = NgramCache(4, 4), NgramCache(4, 4)
    with Prefetcher(ahead, pieces, depth=data.draw(st.integers(1, 4))) as prefetcher:
        for piece, (taken, evidence) in zip(pieces, prefetcher, strict=True):
            assert taken == piece
            np.testing.assert_array_equal(evidence.fields, behind.observe(piece).fields)
    assert ahead.position == len(tokens)


def test_no_more_than_depth_pieces_are_ahead_and_the_thread_is_another():
    taken = []
    threads = set()

    class Spy(NgramCache):
        def observe(self, tokens):
            threads.add(threading.get_ident())
            return super().observe(tokens)

    def pieces():
        for i in range(10):
            taken.append(i)
            yield [i % 4]

    with Prefetcher(Spy(3, 4), pieces(), depth=3) as ahead:
        for i, _ in enumerate(ahead):
            assert len(taken) <= i + 4
    assert len(taken) == 10
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1


def test_an_error_comes_in_its_place_and_nothing_later_is_learned():
    cache = NgramCache(3, 4)
    with Prefetcher(cache, [[0, 1], [2], [7], [1, 1], [2]], depth=4) as ahead:
        assert next(ahead)[0] == [0, 1]
        assert next(ahead)[0] == [2]
        with pytest.raises(ValueError, match=r"tokens must be in \[0, 4\), got 7 at position 0"):
            next(ahead)
        assert list(ahead) == []
    assert cache.position == 3


def test_an_error_of_the_pieces_is_raised_in_the_loop():
    def pieces():
        yield [0]
        raise OSError("the shard ends early")

    cache = NgramCache(3, 4)
    ahead = Prefetcher(cache, pieces())
    assert next(ahead)[0] == [0]  # it was read before the error
    with pytest.raises(OSError, match="the shard ends early"):
        next(ahead)
    assert list(ahead) == []
    cache.observe([1])  # it is free again


def test_a_loop_that_is_left_leaves_no_thread():
    before = threading.active_count()
    cache = NgramCache(3, 4)
    with Prefetcher(cache, [[0]] * 50) as ahead:
        next(ahead)
    assert threading.active_count() == before
    assert 1 <= cache.position <= 4
    assert list(ahead) == []


@pytest.mark.parametrize("depth", [0, 1025, 1.5])
def test_depth(depth):
    text = f"depth must be an integer in 1..1024, got {depth}; leave it out for the default"
    with pytest.raises(ValueError) as error:
        Prefetcher(NgramCache(3, 4), [], depth=depth)
    assert str(error.value) == text
