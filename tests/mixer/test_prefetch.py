"""prefetch: the same items as without it, errors at their position, no thread left running."""

import threading
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import Mixer, NgramCache, prefetch, read_logits


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_evidence_is_that_of_observe(tokens, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(tokens)))) | {0, len(tokens)})
    batches = [tokens[start:stop] for start, stop in pairwise(cuts)]
    early, late = NgramCache(order=4, vocab_size=4), NgramCache(order=4, vocab_size=4)
    observed = prefetch(map(early.observe, batches), n_ahead=data.draw(st.integers(1, 4)))
    for batch, evidence in zip(batches, observed, strict=True):
        np.testing.assert_array_equal(evidence._columns, late.observe(batch)._columns)
    assert early.position == len(tokens)


@pytest.mark.parametrize("n_ahead", [1, 5])
def test_a_mixer_scores_the_same_when_it_observes_ahead(rng, n_ahead):
    tokens, logits = np.tile([0, 1, 2, 0, 3], 60), rng.normal(size=(300, 4))
    mixer, expected = Mixer(vocab_size=4), Mixer(vocab_size=4).score(logits, tokens)
    batches, nats = np.split(tokens, 30), []
    for observed in prefetch(map(mixer.observe, batches), n_ahead):
        positions = observed.position + np.arange(len(observed))
        reader = read_logits(logits[positions], observed.tokens, positions)
        nats.append(mixer.score_observed(observed, reader.lookup(observed.hint_tokens)).nats)
    np.testing.assert_array_equal(np.concatenate(nats), expected)


@pytest.mark.parametrize("n_ahead", [1, 3])
def test_at_most_n_ahead_items_are_computed_early_and_the_thread_is_another(n_ahead):
    threads, n_computed = set(), 0

    def items():
        nonlocal n_computed
        for i in range(10):
            threads.add(threading.get_ident())
            n_computed = i + 1
            yield i

    for i, item in enumerate(prefetch(items(), n_ahead)):
        assert item == i
        assert n_computed <= i + 1 + n_ahead
    assert n_computed == 10
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1


@pytest.mark.parametrize("n_ahead", [1, 2, 4])
def test_an_error_comes_at_its_position_and_nothing_later_is_learned(n_ahead):
    cache = NgramCache(order=3, vocab_size=4)
    observed = prefetch(map(cache.observe, [[0, 1], [2], [7], [1, 1], [2]]), n_ahead)
    assert [len(next(observed)), len(next(observed))] == [2, 1]
    with pytest.raises(ValueError, match=r"tokens must be in \[0, 4\), got 7 at position 0"):
        next(observed)
    assert list(observed) == []
    assert cache.position == 3


def test_an_error_of_the_batches_is_raised_in_the_loop():
    def batches():
        yield [0]
        raise OSError("the shard ends early")

    cache = NgramCache(order=3, vocab_size=4)
    observed = prefetch(map(cache.observe, batches()))
    assert len(next(observed)) == 1
    with pytest.raises(OSError, match="the shard ends early"):
        next(observed)
    assert list(observed) == []
    cache.observe([1])  # the thread has ended: the cache is free again


def test_a_loop_that_is_left_early_leaves_no_thread():
    before = threading.active_count()
    cache = NgramCache(order=3, vocab_size=4)
    for _ in prefetch(cache.observe([0]) for _ in range(50)):
        break
    observed = prefetch(map(cache.observe, [[0]] * 50))
    next(observed)
    observed.close()
    assert threading.active_count() == before
    assert 2 <= cache.position <= 6
    assert list(observed) == []


def test_closing_closes_the_generator_that_is_run_ahead():
    is_closed = threading.Event()

    def items():
        try:
            yield from count()
        finally:
            is_closed.set()

    numbers = prefetch(items())
    assert [next(numbers), next(numbers)] == [0, 1]
    numbers.close()
    assert is_closed.is_set()


def test_nothing_runs_before_the_first_item_is_asked_for():
    before = threading.active_count()
    prefetch(iter([1]))
    assert threading.active_count() == before


@pytest.mark.parametrize("n_ahead", [0, 1025, 1.5])
def test_n_ahead(n_ahead):
    text = f"n_ahead must be an integer in 1..1024, got {n_ahead}; leave it out for the default"
    with pytest.raises(ValueError) as error:
        prefetch([], n_ahead)
    assert str(error.value) == text
