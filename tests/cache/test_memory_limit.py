"""The memory limit in real bytes, and over a stream many times as long as what it holds."""

import subprocess
import sys

import numpy as np
import pytest

from ngrammix import Mixer, NgramCache

SCRIPT = """
import sys
import numpy as np
from ngrammix import Mixer, NgramCache

def kib(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

rng = np.random.default_rng(0)
pieces = [rng.integers(0, 64, 1 << 17).astype(np.uint8) for _ in range(16)]
NgramCache(vocab_size=64, order=5, memory_limit="4MiB").learn(pieces[0])  # compiles
before = kib("VmRSS")
cache = NgramCache(vocab_size=64, order=5, memory_limit="30MiB")
for piece in pieces:
    cache.learn(piece)
    assert cache.nbytes <= cache.memory_limit
grown = (kib("VmHWM") - before) * 1024
cache.check()
print(grown, cache.nbytes, cache.stats()["n_evictions"])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_takes_no_more_memory_than_the_limit():
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=True
    )
    grown, nbytes, n_evictions = map(int, run.stdout.split())
    assert n_evictions > 3
    # Beside the tables: a piece as int64 (1 MiB), the arrays of the kernels and of an eviction.
    assert nbytes // 2 < grown < (30 + 12) << 20


def test_a_full_cache_still_learns_what_comes_next(rng):
    """Long after it was full, a cache knows the last tokens as well as a new one."""
    cache = NgramCache(vocab_size=64, order=5, memory_limit="6 MiB")
    cache.learn(rng.integers(0, 64, 400_000))
    assert cache.stats()["n_evictions"] > 2
    phrase = rng.integers(0, 64, 500)
    cache.learn(phrase)
    evidence = cache.observe(phrase)
    assert (evidence.matched_order[4:] == 5).all()
    assert (evidence.hint[4, 4:] == phrase[4:]).mean() > 0.95
    cache.check()
    assert np.isclose(cache.distribution().sum(), 1, atol=1e-12)


def test_a_mixer_that_forgets_stays_normalised_and_within_its_bound(rng):
    mixer = Mixer(vocab_size=64, order=5, memory_limit="3 MiB")
    tokens = rng.integers(0, 64, 60_000)
    tokens[40_000:] = tokens[:20_000]
    logits = rng.normal(size=(6_000, 64))
    for start in range(0, len(tokens), len(logits)):
        mixer.score(logits, tokens[start : start + len(logits)])
        assert abs(mixer.probs(logits[0]).sum() - 1) < 1e-9
        assert mixer.regret_bits <= mixer.bound_bits
    stats = mixer.cache.stats()
    assert stats["n_evictions"] > 0
    assert stats["nbytes"] <= stats["memory_limit"] == 3 << 20
