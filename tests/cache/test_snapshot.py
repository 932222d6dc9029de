"""Snapshots: resumed is never interrupted, and no damaged file is ever believed."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix import NgramCache, SnapshotError, snapshot
from ngrammix.kernels import index

pytestmark = pytest.mark.kernels

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("snapshots")


@given(st.integers(1, 6), tokens, st.booleans(), tokens)
def test_a_resumed_stream_continues_with_the_same_bits(folder, order, before, cut, after):
    original = NgramCache(vocab_size=4, order=order)
    original.learn(before)
    if cut:
        original.boundary()
    original.save(folder / "a")
    resumed = NgramCache.load(folder / "a")
    assert resumed.position == len(before)
    assert len(resumed) == len(original)
    one, other = original.observe(after), resumed.observe(after)
    np.testing.assert_array_equal(one._columns, other._columns)
    np.testing.assert_array_equal(one.discounts, other.discounts)
    resumed.check()
    original.save(folder / "a")
    resumed.save(folder / "b")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@pytest.fixture(scope="module")
def saved(folder):
    """(path, bytes) of a good snapshot."""
    cache = NgramCache(vocab_size=4, order=3)
    cache.learn([0, 1, 2, 0, 1, 3, 0, 1, 2])
    cache.save(folder / "good")
    return folder / "good", (folder / "good").read_bytes()


@given(st.data())
def test_any_damage_is_refused(folder, saved, data):
    _, whole = saved
    i = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    changed = {
        "flip": whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :],
        "cut": whole[:i],
        "insert": whole[:i] + b"\x07" + whole[i:],
        "append": whole + b"\0",
    }[damage]
    (folder / "damaged").write_bytes(changed)
    with pytest.raises(SnapshotError):
        NgramCache.load(folder / "damaged")


def refusal(path):
    with pytest.raises(SnapshotError) as error:
        NgramCache.load(path)
    return str(error.value)


def test_the_texts_of_refusals(folder, saved):
    _, whole = saved
    path = folder / "bad"
    assert refusal(folder / "none") == (
        f"snapshot must be a file, got {folder / 'none'}; check the path"
    )
    path.write_bytes(b"PK\x03\x04 a zip file")
    assert refusal(path) == (
        f"snapshot must begin with NGRAMMIX, got b'PK\\x03\\x04 a z' in {path}; "
        "is it a file that save wrote?"
    )
    path.write_bytes(whole[:8] + b"\x07" + whole[9:])
    assert refusal(path) == (
        f"snapshot must be of version 4, got 7 in {path}; read it with the ngrammix that wrote it"
    )
    mend = "; use another copy, or learn the tokens anew"
    path.write_bytes(whole[:20])
    assert refusal(path) == f"{path} is damaged: its header is cut short{mend}"
    path.write_bytes(whole + b"!")
    assert refusal(path) == f"{path} is damaged: 1 bytes follow its end{mend}"
    path.write_bytes(whole[:-1])
    assert refusal(path) == f"{path} is damaged: forgotten ends beyond the file{mend}"
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert refusal(path) == f"{path} is damaged: forgotten is not what was saved{mend}"


def forge(values=None, **changes):
    """A state with valid checksums that no stream can have had."""

    def write(folder):
        cache = NgramCache(vocab_size=4, order=3)
        cache.learn([0, 1, 2, 0, 1, 3, 0, 1, 2])
        state = {name: array.copy() for name, array in cache._state()[1].items()}
        for name, change in changes.items():
            name = name.replace("_", " ")
            state[name] = change(state[name])
        told = {"order": 3, "vocab_size": 4, "memory_limit": None, "position": 9}
        told |= values or {}
        snapshot.write(folder / "forged", told, state)
        return folder / "forged"

    return write


def with_cell(row, column, value):
    def change(rows):
        rows[row, column] = value
        return rows

    return change


def with_open(unit, column, value):
    """Change the first or the second unit of the first n-gram that is open."""

    def change(rows):
        row = np.flatnonzero(rows[:, index.LAST_SEEN] >= index.OPEN)[0]
        return with_cell(row + unit, column, value)(rows)

    return change


def with_free(k, unit):
    def change(units):
        units[k] = unit
        return units

    return change


@pytest.mark.parametrize(
    ("forged", "text"),
    [
        (forge(rows_2=with_open(0, index.SUFFIX, 99)), "rows 2 have an invalid value"),
        (forge(rows_2=with_open(0, index.FIRST, 4)), "rows 2 have an invalid value"),
        (forge(rows_1=with_open(1, index.HINT, 2**32 - 1)), "rows 1 have an invalid value"),
        (forge(rows_3=with_cell(0, index.LAST_SEEN, 42)), "rows 3 have an invalid value"),
        (forge(bits=lambda bits: bits + 16), "2**20 slots do not fit 1 rows"),
        (forge(bits=lambda bits: bits - 1), "2**3 slots do not fit 1 rows"),
        (
            forge(bits=lambda bits: bits + np.array([2, 0, 0, 0], np.uint32)),
            "2**6 slots do not fit 1 rows",
        ),
        (forge(sweeps=lambda sweeps: sweeps - 1), "sweeps must be >= 0"),
        (forge({"memory_limit": 5}), "memory_limit must be at least "),
        (forge({"memory_limit": "much"}), "memory_limit must be a number of bytes > 0, got 'much'"),
        (forge({"n_threads": 2}), "values must be ['memory_limit', 'order', 'position', "),
        (
            forge(ends=lambda ends: ends + 50),
            "the context of 0 tokens has an invalid row or time",
        ),
        (forge(ends=with_cell(1, 2, 99)), "the context of 2 tokens has an invalid row or time"),
        (forge(ends=with_cell(0, 1, 3)), "the context of 1 tokens has an invalid row or time"),
        (forge(ends=lambda ends: ends[:, :-1]), "ends has the wrong shape or dtype"),
        (forge(open=lambda n: n + 1), "the context of 4 tokens has an invalid length"),
        (forge(open=lambda n: n - 4), "open must be >= 0"),
        (forge(updates=lambda n: n - 1), "updates must be >= 0"),
        (forge(updates=lambda n: n + 2**30), "a cache learns at most"),
        (forge(context=lambda n: n + 1), "the stream must have at most 9 tokens, and hold its"),
        (forge(context=lambda n: n - 1), "the stream begins no document where its context does"),
        (forge(stream=lambda words: words & 3), "the stream begins no document where its context"),
        (forge(stream=lambda words: words + 3), "the stream has an invalid token"),
        (forge(stream=lambda words: words[1:]), "the stream must have at most 9 tokens, and hold"),
        (forge(stream=lambda words: np.append(words, words)), "the stream must have at most 9"),
        (forge(rows_3=with_cell(0, index.LAST_SEEN, 66)), "rows 3 have an invalid value"),
        (forge(rows_3=with_cell(0, index.LAST_SEEN, 68)), "broken table: an n-gram of the stream"),
        (forge(rows_3=lambda rows: rows[:, :3]), "rows 3 has the wrong shape or dtype"),
        (forge(rows_2=lambda rows: np.repeat(rows, 2, axis=0)), "rows 2 have an invalid"),
        (forge(rows_2=lambda rows: rows[:-1]), "rows 2 have an invalid layout"),
        (forge(rows_2=lambda rows: rows[1:]), "rows 2 have an invalid layout"),
        (forge(rows_0=with_cell(0, index.LAST_SEEN, 0)), "rows 0 have an invalid value"),
        (forge(free=lambda units: units + 1), "rows 0 have an invalid layout"),
        (forge(free=with_free(1, index.NONE)), "rows 1 have an invalid layout"),
        (forge(free=with_free(1, 4)), "rows 1 have an invalid layout"),
        (forge(rows_1=with_open(1, index.FOLLOWERS, 7)), "broken table: followers is not"),
        (forge({"order": 2}), "arrays must be "),
        (forge({"order": 99}), "order must be in 1..64, got 99"),
        (forge({"vocab_size": 3}), "the stream has an invalid token"),
        (forge({"position": 3}), "the stream must have at most 3 tokens, and hold its context"),
        (forge({"position": 2**40}), "a cache learns at most"),
        (forge({"position": "9"}), ""),
        (forge({"position": 9.0}), "position must be an integer >= 0, got 9.0"),
        (forge({"position": -1}), "position must be an integer >= 0, got -1"),
    ],
)
def test_a_forged_state_is_refused_before_it_is_followed(folder, forged, text):
    path = forged(folder)
    assert refusal(path).startswith(f"{path} is damaged: ")
    assert text in refusal(path)


def test_a_forged_header_is_refused(folder):
    for header in (b"[]", b"{", b'{"values": {}, "arrays": {"a": {"dtype": "O"}}}'):
        digest = snapshot.blake2b(header, digest_size=snapshot.DIGEST_BYTES).digest()
        sizes = np.array([snapshot.VERSION, len(header)], "<u4").tobytes()
        (folder / "header").write_bytes(snapshot.MAGIC + sizes + digest + header)
        assert "its header is not valid" in refusal(folder / "header")


def test_a_failed_save_leaves_the_old_file_and_nothing_beside_it(folder, monkeypatch):
    cache = NgramCache(vocab_size=4, order=2)
    path = folder / "kept" / "a"
    path.parent.mkdir()
    cache.save(path)
    before = path.read_bytes()
    cache.learn([0, 1, 2])

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError) as error:
        cache.save(path)
    assert str(error.value) == (
        f"snapshots must become a file, got {path}, which cannot be written: No space left on "
        "device; make room on its disk"
    )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 0.01, 0.03, 0.1])
def test_a_killed_process_leaves_a_whole_file(folder, after):
    path = folder / f"killed {after}"
    script = (
        "import sys, numpy as np\nfrom ngrammix import NgramCache\n"
        "cache = NgramCache(vocab_size=9, order=4)\n"
        "while True:\n"
        "    cache.learn(np.arange(3000) % 9)\n    cache.save(sys.argv[1])\n    print(flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE)
    process.stdout.readline()  # saved once
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    NgramCache.load(path).check()
