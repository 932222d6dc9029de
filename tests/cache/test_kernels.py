"""Kernels by themselves: the hash, tables as full as they get, growth, the uncached fallback."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numba import config, uint64
from numba.core import caching

from ngrammix.cache import growing_array
from ngrammix.cache.table import Table, bits_for
from ngrammix.kernels import index, integrity
from ngrammix.kernels.jit import jit

pytestmark = pytest.mark.kernels

SOURCES = Path(growing_array.__file__).parents[1]


def test_the_hash_is_unsigned_whatever_integers_come_in():
    mixed = index.hash_key(np.uint32(7), np.int64(99))
    assert mixed == index.hash_key(np.uint32(7), np.uint32(99))
    assert mixed > 0
    if not config.DISABLE_JIT:
        assert {
            overload.signature.return_type for overload in index.hash_key.overloads.values()
        } == {uint64}


def test_flipping_a_bit_of_the_key_flips_half_of_the_hash(rng):
    flips = []
    for prefix, token in rng.integers(0, 2**31, (64, 2)):
        code = int(index.hash_key(prefix, token))
        flips += [
            bin(code ^ int(index.hash_key(prefix ^ (1 << b), token))).count("1") for b in range(31)
        ]
        flips += [
            bin(code ^ int(index.hash_key(prefix, token ^ (1 << b)))).count("1") for b in range(31)
        ]
    assert 30 < np.mean(flips) < 34
    assert min(flips) > 8


def filled(keys):
    """Table that holds (suffix, token) keys in this order."""
    table = Table(np.array(index.EMPTY), is_longest=True)
    units = np.zeros((len(keys), index.COLUMNS), np.uint32)
    units[:, : index.FIRST + 1] = keys
    table.load_rows(units, bits_for(len(keys), len(keys)), index.NONE)
    return table


def found(table, keys):
    """The row that a search finds for each key, NONE if there is none."""
    rows = []
    for suffix, token in np.array(keys, np.uint32):
        code = index.code_key(suffix, token)
        row, _ = index.find_row(table.slots, np.uint64(table.bits), table.rows, suffix, token, code)
        rows.append(int(row))
    return rows


def test_a_table_as_full_as_it_gets_still_ends_every_search(rng):
    keys = [(int(p), int(t)) for p, t in rng.integers(0, 50, (12, 2))]
    keys = list(dict.fromkeys(keys))[:12]  # 12 of 16 slots: the load limit
    table = filled(keys)
    assert len(table.slots) == 16
    assert found(table, keys) == list(range(len(keys)))
    absent = [(p, t) for p in range(50) for t in range(50) if (p, t) not in keys]
    assert set(found(table, absent)) == {index.NONE}


def test_rows_keep_their_numbers_through_growth(rng):
    keys = list(dict.fromkeys((int(p), int(t)) for p, t in rng.integers(0, 300, (3000, 2))))
    table = filled(keys)
    before = table.rows[: len(table)].copy()
    for more in (1, 10_000, 100_000):
        table.reserve(more)
        assert len(table.rows) >= len(table) + more
        np.testing.assert_array_equal(table.rows[: len(table)], before)
        assert found(table, keys) == list(range(len(keys)))
        rows = np.empty(len(keys), np.uint32)
        heads = table.list_rows()
        integrity.find_keys(table.rows, heads, table.slots, table.bits, rows)
        np.testing.assert_array_equal(rows, heads)
    assert not table.rows[len(table) :].any()


@pytest.mark.parametrize("reserves", [True, False])
def test_rows_grow_in_place_or_are_copied_where_nothing_is_reserved(monkeypatch, reserves):
    if not reserves:
        monkeypatch.setattr(growing_array, "NO_RESERVE", None)
    rows = growing_array.GrowingArray(4, 8)
    view = rows.array
    view[:] = 7
    for capacity in (5, 1000, 300_000):
        rows.grow(capacity)
        assert rows.array.shape == (capacity, 8)
        assert (rows.array[:4] == 7).all()
        assert not rows.array[4:].any()
        assert np.shares_memory(rows.array, view) == (reserves or capacity < 10_000)
    assert (view == 7).all()  # whoever looked before still may


def test_rows_that_outgrow_what_was_reserved_are_copied(monkeypatch):
    monkeypatch.setattr(growing_array, "RESERVED", 8 << 20)
    rows = growing_array.GrowingArray(4, 8)
    rows.array[:] = 7
    rows.grow(1 << 20)
    assert rows.array.shape == (1 << 20, 8)
    assert (rows.array[:4] == 7).all()
    assert not rows.array[4:].any()


def test_large_arrays_begin_on_a_huge_page():
    for shape in ((1 << 21, 1), (1 << 18, 8)):
        array = growing_array.GrowingArray(*shape).array
        assert array.ctypes.data % growing_array.HUGE_PAGE == 0
        assert not array.any()


def test_kernels_compile_where_no_cache_folder_can_be_written(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache function"):
        caching.FunctionCache(lambda x: x)

    def add_one(x):
        return x + 1

    assert jit(add_one)(41) == 42


def test_a_failed_growth_leaves_the_table_as_it_was(monkeypatch):
    monkeypatch.setattr(growing_array, "RESERVED", 0)
    keys = [(0, token) for token in range(12)]
    table = filled(keys)

    def no_memory(n_bytes, **_):
        raise MemoryError(f"no {n_bytes} bytes")

    monkeypatch.setattr(growing_array, "map_pages", no_memory)
    with pytest.raises(MemoryError):
        table.reserve(1_000_000)
    assert found(table, keys) == list(range(12))


def test_memory_that_is_not_there_is_named():
    with pytest.raises(MemoryError, match=r"no [0-9,]+ bytes of memory are left for the tables"):
        growing_array.GrowingArray(1 << 52, 1)


SCRIPT = """
import ngrammix
cache = ngrammix.NgramCache(vocab_size=4, order=3)
cache.learn([0, 1, 2, 0, 1, 2, 0])
cache.check()
print(ngrammix.__file__)
"""


def run_elsewhere(tmp_path, path, **environment):
    """Run SCRIPT with `path` before every other place to import from; what it prints."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True,
        timeout=120, env=os.environ | {"PYTHONPATH": str(path)} | environment,
    ).stdout.strip()  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_the_package_works_from_a_zip_file_without_a_home(tmp_path):
    package = tmp_path / "package.zip"
    with zipfile.ZipFile(package, "w") as file:
        for source in SOURCES.rglob("*.py"):
            file.write(source, source.relative_to(SOURCES.parent))
    nowhere = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    assert str(package) in run_elsewhere(tmp_path, package, **nowhere)


@pytest.mark.slow
@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
def test_a_changed_constant_reaches_kernels_cached_by_an_older_version(tmp_path):
    shutil.copytree(SOURCES, tmp_path / "ngrammix", ignore=shutil.ignore_patterns("__pycache__"))
    folder = {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    assert str(tmp_path) in run_elsewhere(tmp_path, tmp_path, **folder)
    file = tmp_path / "ngrammix" / "kernels" / "index.py"
    source = file.read_text(encoding="utf-8")
    swapped = source.replace("FOLLOWERS, DISTINCT, HINT,", "DISTINCT, FOLLOWERS, HINT,")
    assert swapped != source
    file.write_text(swapped, encoding="utf-8")
    run_elsewhere(tmp_path, tmp_path, **folder)
