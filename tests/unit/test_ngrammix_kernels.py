"""Kernels by themselves: the hash, tables as full as they get, growth, the uncached fallback."""

import numpy as np
import pytest
from numba import config, uint64
from numba.core import caching

from ngrammix import memory
from ngrammix.kernels import find
from ngrammix.kernels.jit import jit
from ngrammix.table import Table

pytestmark = pytest.mark.kernels


def test_the_hash_is_unsigned_whatever_integers_come_in():
    mixed = find.hash_key(np.uint32(7), np.int64(99))
    assert mixed == find.hash_key(np.uint32(7), np.uint32(99))
    assert mixed > 0
    if not config.DISABLE_JIT:
        assert {
            overload.signature.return_type for overload in find.hash_key.overloads.values()
        } == {uint64}


def test_flipping_a_bit_of_the_key_flips_half_of_the_hash(rng):
    flips = []
    for prefix, token in rng.integers(0, 2**31, (64, 2)):
        code = int(find.hash_key(prefix, token))
        flips += [
            bin(code ^ int(find.hash_key(prefix ^ (1 << b), token))).count("1") for b in range(31)
        ]
        flips += [
            bin(code ^ int(find.hash_key(prefix, token ^ (1 << b)))).count("1") for b in range(31)
        ]
    assert 30 < np.mean(flips) < 34
    assert min(flips) > 8


def filled(keys):
    """Table that holds (prefix, token) keys in this order."""
    table = Table(is_longest=True)
    table.reserve(len(keys))
    prefixes, tokens = np.array(keys).T
    rows = np.empty(len(keys) + 1, np.uint32)
    table.find(
        tokens.astype(np.int64), prefixes.astype(np.uint32), rows, np.zeros_like(rows), 0, find.MAKE
    )
    return table, rows[1:]


def test_a_table_as_full_as_it_gets_still_ends_every_search(rng):
    keys = [(int(p), int(t)) for p, t in rng.integers(0, 50, (12, 2))]
    keys = list(dict.fromkeys(keys))[:12]  # 12 of 16 slots: the load limit
    table, rows = filled(keys)
    assert table.slot_count == 16
    np.testing.assert_array_equal(rows, np.arange(len(keys)))
    absent = [(p, t) for p in range(50) for t in range(50) if (p, t) not in keys]
    prefixes, tokens = np.array(absent).T
    found = table.lookup(prefixes.astype(np.uint32), tokens.astype(np.int64))
    assert (found == find.NONE).all()


def test_rows_keep_their_numbers_through_growth(rng):
    keys = list(dict.fromkeys((int(p), int(t)) for p, t in rng.integers(0, 300, (3000, 2))))
    table, rows = filled(keys)
    before = table.rows[: len(table)].copy()
    for more in (1, 10_000, 100_000):
        table.reserve(more)
        assert len(table.rows) >= len(table) + more
        np.testing.assert_array_equal(table.rows[: len(table)], before)
        prefixes, tokens = np.array(keys).T
        found = table.lookup(prefixes.astype(np.uint32), tokens.astype(np.int64))
        np.testing.assert_array_equal(found, rows)
    assert not table.rows[len(table) :].any()


def test_rows_grow_where_the_system_cannot_remap(monkeypatch):
    rows = memory.GrowingRows(4, 8)
    rows.array[:] = 7

    class Fixed:
        """Pages that refuse to be resized, as on systems without mremap."""

        def __init__(self, pages):
            self.pages = pages

        def resize(self, n_bytes):
            raise SystemError("mmap: resizing not available--no mremap()")

        def __len__(self):
            return len(self.pages)

        def __getitem__(self, index):
            return self.pages[index]

    monkeypatch.setattr(rows, "_pages", Fixed(rows._pages))
    rows.grow(1000)
    assert rows.array.shape == (1000, 8)
    assert (rows.array[:4] == 7).all()
    assert not rows.array[4:].any()


def test_large_arrays_begin_on_a_page():
    for array in (memory.zeros(1 << 21), memory.GrowingRows(1 << 18, 8).array):
        assert array.ctypes.data % 4096 == 0
        assert not array.any()


def test_kernels_compile_where_no_cache_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache function"):
        caching.FunctionCache(lambda x: x)

    def add_one(x):
        return x + 1

    assert jit(add_one)(41) == 42
