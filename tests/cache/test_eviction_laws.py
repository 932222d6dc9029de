"""Laws of a cache with a memory limit: exact in what it keeps, the same however it is called."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import NgramCache
from ngrammix.cache import eviction, growing_array, memory_limit, pipeline
from ngrammix.reference import ReferenceCache

pytestmark = pytest.mark.kernels

FIELDS = ["followers", "n_distinct", "target_count", "hint", "hint_count", "age", "discounts"]
VOCAB_SIZE = 4


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """Count single bytes and check the limit often, so that few tokens fill a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "CHUNK_SIZE", 3)
        patch.setattr(pipeline, "MAX_IN_FLIGHT", 2)
        patch.setattr(memory_limit, "MAX_BLOCK_SIZE", 8)
        patch.setattr(memory_limit, "BLOCK_SHARE", 1)
        patch.setattr(growing_array, "PAGE", 16)
        yield


@st.composite
def limits(draw, order):
    """A limit from the smallest that there is for the order."""
    return draw(st.integers(least(order), 2 * least(order)))


def least(order):
    with pytest.raises(ValueError, match="memory_limit must be at least") as error:
        NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=1)
    return int(str(error.value).split()[5])


tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=120)
orders = st.integers(1, 6)


def columns(evidence, i):
    """The evidence of one position, column by column, k = 0..order - 1."""
    return [getattr(evidence, field)[:, i].tolist() for field in FIELDS]


@pytest.fixture(autouse=True, scope="module")
def cutoffs():
    """The cutoff of each eviction since the list was cleared, in order."""
    cutoffs, evict = [], eviction.evict

    def logged(store, cutoff):
        cutoffs.append(cutoff)
        return evict(store, cutoff)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eviction, "evict", logged)
        yield cutoffs


def evict_too(slow, cutoffs):
    """Let the reference evict what the cache just did."""
    for cutoff in cutoffs:
        slow.evict(cutoff)
    cutoffs.clear()


@given(st.data(), orders)
def test_eviction_equals_the_reference_bit_for_bit(cutoffs, data, order):
    limit = data.draw(limits(order))
    fast = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit)
    slow = ReferenceCache(VOCAB_SIZE, order)
    cutoffs.clear()
    for _ in range(data.draw(st.integers(1, 3))):
        for token in data.draw(tokens):
            evidence = fast.observe([token])
            expected = slow.evidence(token)
            assert columns(evidence, 0) == [list(column) for column in zip(*expected, strict=True)]
            slow.learn(token)
            evict_too(slow, cutoffs)
            assert fast.nbytes <= limit
            assert len(fast) == len(slow.rows())
        fast.check()
        q = fast.distribution()
        np.testing.assert_allclose(q, slow.distribution(slow.history), rtol=1e-12)
        assert abs(q.sum() - 1) < 1e-12
        fast.boundary()
        slow.boundary()


@given(st.data(), orders, tokens)
def test_what_is_asked_of_the_next_position_is_what_it_meets(data, order, stream):
    """Eviction comes after a token, never between `peek` and `observe`."""
    fast = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=data.draw(limits(order)))
    for token in stream:
        asked = fast.peek()
        met = fast.observe([token])
        for name in set(FIELDS) - {"target_count"}:
            np.testing.assert_array_equal(getattr(asked, name), getattr(met, name))


@given(st.data(), orders, tokens)
def test_what_is_evicted_depends_on_the_stream_alone(data, order, stream):
    limit = data.draw(limits(order))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)))) | {0, len(stream)})
    whole, pieces, threaded = (
        NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit, n_threads=n)
        for n in (1, 1, 2)
    )
    evidence = whole.observe(stream)
    parts = [pieces.observe(stream[start:stop])._columns for start, stop in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), evidence._columns)
    np.testing.assert_array_equal(threaded.observe(stream)._columns, evidence._columns)
    for cache in (pieces, threaded):
        assert cache.stats() == whole.stats()
        cache.check()


@given(st.data(), orders)
def test_updates_beside_the_stream_stay_within_the_limit(cutoffs, data, order):
    limit = data.draw(limits(order))
    fast = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit)
    slow = ReferenceCache(VOCAB_SIZE, order)
    cutoffs.clear()
    for token in data.draw(tokens):
        context = data.draw(st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=8))
        is_update = data.draw(st.booleans())
        fast.update(context, token) if is_update else fast.learn([token])
        slow.update(context, token) if is_update else slow.learn(token)
        evict_too(slow, cutoffs)
        assert fast.nbytes <= limit
        assert len(fast) == len(slow.rows())
        ahead = [list(column) for column in zip(*slow.evidence(None), strict=True)]
        assert columns(fast.peek(), 0) == ahead
    fast.check()


@given(st.data(), orders, tokens, tokens)
def test_a_saved_cache_evicts_the_same(tmp_path_factory, data, order, before, after):
    limit = data.draw(limits(order))
    cache = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit)
    cache.learn(before)
    path = tmp_path_factory.getbasetemp() / "limited"
    cache.save(path)
    resumed = NgramCache.load(path)
    assert resumed.memory_limit == limit
    np.testing.assert_array_equal(cache.observe(after)._columns, resumed.observe(after)._columns)
    assert cache.stats() == resumed.stats()


@given(st.data(), orders, tokens)
def test_a_cleared_cache_is_a_new_one(data, order, stream):
    limit = data.draw(st.none() | limits(order))
    new, cleared = (
        NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit) for _ in range(2)
    )
    cleared.learn(data.draw(tokens))
    cleared.clear()
    assert (
        cleared.stats()
        == NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit).stats()
    )
    np.testing.assert_array_equal(new.observe(stream)._columns, cleared.observe(stream)._columns)
    assert new.stats() == cleared.stats()
    cleared.check()


def test_these_tests_do_evict(rng):
    for order in (2, 4, 6):
        cache = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=int(1.2 * least(order)))
        cache.learn(rng.integers(0, VOCAB_SIZE, 120))
        assert cache.stats()["n_evictions"] > 2
        assert sum(cache.stats()["evicted"]) > 10


pieces = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=30)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("observe"), pieces),
        st.tuples(st.just("update"), pieces),
        st.tuples(st.sampled_from(["boundary", "save", "kill"]), st.none()),
    ),
    max_size=20,
)


@given(st.data(), orders, steps, st.integers(1, 2))
def test_a_stream_that_is_killed_and_resumed_equals_the_reference(
    tmp_path_factory, cutoffs, data, order, steps, n_threads
):
    path = tmp_path_factory.getbasetemp() / "killed"
    limit = data.draw(st.none() | limits(order))
    fast = NgramCache(vocab_size=VOCAB_SIZE, order=order, memory_limit=limit, n_threads=n_threads)
    slow = ReferenceCache(VOCAB_SIZE, order)
    cutoffs.clear()
    fast.save(path)
    saved = copy.deepcopy(slow)
    for verb, tokens in steps:
        if verb == "observe":  # in one call here, but followed token by token beside it
            before = NgramCache.load(save(fast, path.with_suffix(".now")))
            evidence = fast.observe(tokens)
            cutoffs.clear()
            for i, token in enumerate(tokens):
                before.learn([token])
                expected = zip(*slow.evidence(token), strict=True)
                assert columns(evidence, i) == [list(column) for column in expected]
                slow.learn(token)
                evict_too(slow, cutoffs)
        elif verb == "update":
            fast.update(tokens, tokens[0])
            slow.update(tokens, tokens[0])
            evict_too(slow, cutoffs)
        elif verb == "boundary":
            fast.boundary()
            slow.boundary()
        elif verb == "save":
            fast.save(path)
            saved = copy.deepcopy(slow)
        else:  # killed: all since the last save is lost
            fast = NgramCache.load(path, n_threads=n_threads)
            slow = copy.deepcopy(saved)
        assert len(fast) == len(slow.rows())
        assert limit is None or fast.nbytes <= limit
    fast.check()
    ahead = [list(column) for column in zip(*slow.evidence(None), strict=True)]
    assert columns(fast.peek(), 0) == ahead


def save(cache, path):
    cache.save(path)
    return path
