"""The memory of the evidence: what it takes, and what a cache does that gets none."""

import numpy as np
import pytest
from numba import config

from ngrammix import NgramCache
from ngrammix.cache import evidence as module
from ngrammix.cache import pipeline
from ngrammix.kernels.evidence import N_COLUMNS
from tests.faults.memory import allocations_fail

ENTRY_BYTES = 4 * N_COLUMNS


def parts_of(evidence):
    return [part.entries for part in evidence._segments]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_call_takes_an_entry_for_each_context_that_occurred_before(n_threads, rng, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK_SIZE", 64)
    cache = NgramCache(vocab_size=4, order=6, n_threads=n_threads)
    cache.learn(rng.integers(0, 4, 300))
    evidence = cache.observe(rng.integers(0, 4, 500))
    seen = evidence.followers > 0  # no boundary: whatever occurred before has a follower
    assert len(evidence._segments) > 7
    assert sum(map(len, parts_of(evidence))) == seen.sum()
    np.testing.assert_array_equal(evidence._n_entries, seen.sum(axis=1))


def test_the_block_of_a_short_call_is_as_large_as_its_entries(rng):
    cache = NgramCache(vocab_size=4, order=30)
    cache.learn(rng.integers(0, 4, 300))
    (entries,) = parts_of(cache.observe(rng.integers(0, 4, 7)))
    assert entries.base.nbytes == entries.nbytes < 7 * 10 * ENTRY_BYTES


def test_segments_share_blocks_of_a_bounded_size(rng, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK_SIZE", 10)
    monkeypatch.setattr(module, "BLOCK_SIZE", 100)
    cache = NgramCache(vocab_size=3, order=4)
    parts = parts_of(cache.observe(rng.integers(0, 3, 400)))
    blocks = {id(entries.base): len(entries.base) for entries in parts}
    assert len(blocks) < len(parts) == 40
    assert max(blocks.values()) <= 100


@pytest.mark.skipif(config.DISABLE_JIT, reason="then kernels allocate with NumPy too")
def test_a_cache_without_memory_for_its_evidence_goes_on(rng, monkeypatch):
    """The first tokens are learned, up to some chunk; all that follows is as if nothing failed."""
    monkeypatch.setattr(pipeline, "CHUNK_SIZE", 16)
    tokens, n_hit = rng.integers(0, 4, 100), 0
    expected = NgramCache(vocab_size=4, order=5).observe(tokens)
    while True:
        cache = NgramCache(vocab_size=4, order=5)
        with allocations_fail(n_hit + 1) as shortage:
            try:
                cache.observe(tokens)
            except MemoryError:
                n_hit += 1
        if not shortage.hit:
            break
        cache.check()
        learned = cache.position
        if learned < len(tokens):
            after = cache.observe(tokens[learned:])
            np.testing.assert_array_equal(after._columns, expected._columns[:, learned:])
            np.testing.assert_array_equal(after.discounts, expected.discounts[:, learned:])
    assert n_hit > 4 * len(expected._segments)
