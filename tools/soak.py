"""Soak test: a long stream through cache and mixer, twice; sums, memory and bits are checked.

    python tools/soak.py                     # 62 million tokens
    python tools/soak.py --tokens 1000000    # in a minute

The stream is generated from a seed: words of a 64-letter alphabet, by Zipf's law, some of which are
new in each block. The model's logits are those of a fixed table of bigrams. Each run is a process
of its own. The second one cuts the stream into other calls and uses two threads; cost and state
must be those of the first, to the bit. The exit status is 1 if a check fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix import Mixer, NgramCache

V = 64
ORDER = 7
BLOCK = 1 << 16  # tokens that are generated at once
N_WORDS, MAX_WORD = 1 << 14, 8
SHARE_NEW = 1 / 8  # of the words, in each block
TOLERANCE = 1e-9  # of a sum of probabilities
# Bytes by which the peak of the second half may exceed that of the first: two buffers.
FLAT = 32 << 20

Tokens = NDArray[np.int64]


def blocks(n_tokens: int, seed: int) -> Iterator[Tokens]:
    """The stream, in blocks."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, V, (N_WORDS, MAX_WORD))
    lengths = rng.integers(2, MAX_WORD + 1, N_WORDS)
    while n_tokens > 0:
        new = rng.integers(0, N_WORDS, int(SHARE_NEW * N_WORDS))
        words[new] = rng.integers(0, V, (len(new), MAX_WORD))
        drawn = np.minimum(rng.zipf(1.2, BLOCK // 2) - 1, N_WORDS - 1)
        is_letter = np.arange(MAX_WORD) < lengths[drawn, None]
        block = words[drawn][is_letter][: min(BLOCK, n_tokens)]
        n_tokens -= len(block)
        yield block


def pieces(n_tokens: int, seed: int, n_checks: int, size: int) -> Iterator[tuple[Tokens, bool]]:
    """(tokens of a call, whether the sums are checked before it); calls of at most `size`."""
    rng = np.random.default_rng([seed, 1])
    chosen = np.unique(rng.integers(0, n_tokens, n_checks))
    start = 0
    for block in blocks(n_tokens, seed):
        inside = chosen[(chosen >= start) & (chosen < start + len(block))] - start
        cuts = np.unique([*range(0, len(block), size), *inside, len(block)])
        for first, last in pairwise(cuts):
            yield block[first:last], bool(np.isin(first, inside))
        start += len(block)


def resident_bytes() -> int:
    """Memory of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


class Checks:
    """Counts of what was tried and what failed, and the memory once the cache is full."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}
        self.failures: dict[str, int] = {}
        self.resident: list[int] = []

    def note(self, name: str, is_right: bool) -> None:
        """Count one try."""
        self.tries[name] = self.tries.get(name, 0) + 1
        self.failures[name] = self.failures.get(name, 0) + (not is_right)


def soak_cache(arguments: argparse.Namespace, checks: Checks) -> dict[str, Any]:
    """The cache alone: each distribution that is checked sums to 1, and the tables are whole."""
    cache = NgramCache(
        vocab_size=V, order=ORDER, memory_limit=arguments.memory_limit, n_threads=arguments.threads
    )
    digest = blake2b(digest_size=16)
    for tokens, is_checked in pieces(
        arguments.tokens, arguments.seed, arguments.checks, arguments.size
    ):
        if is_checked:
            q = cache.distribution()
            is_right = abs(q.sum() - 1) < TOLERANCE and q.min() > 0
            checks.note("the cache's probabilities sum to 1", bool(is_right))
        evidence = cache.observe(tokens)
        digest.update(np.ascontiguousarray(evidence.target_count.T).data)
        watch(cache, checks)
    cache.check()
    return {"evidence": digest.hexdigest(), "n-grams": len(cache)} | ending(cache, checks)


def soak_mixer(arguments: argparse.Namespace, checks: Checks) -> dict[str, Any]:
    """The mixer: sums, the probability of each token that is checked, and the bound."""
    mixer = Mixer(
        vocab_size=V, order=ORDER, memory_limit=arguments.memory_limit,
        n_threads=arguments.threads, check_overlaps=False,
    )  # fmt: skip
    table = np.random.default_rng([arguments.seed, 2]).normal(0, 2, (V, V)).astype(np.float32)
    digest, previous, bits = blake2b(digest_size=16), 0, 0.0
    for tokens, is_checked in pieces(
        arguments.tokens, arguments.seed, arguments.checks, arguments.size
    ):
        logits = table[np.concatenate([[previous], tokens[:-1]])]
        p = mixer.probs(logits[0]) if is_checked else None
        scores = mixer.trace(logits, tokens)
        if p is not None:
            checks.note("the mixer's probabilities sum to 1", abs(p.sum() - 1) < TOLERANCE)
            is_same = abs(np.log(p[tokens[0]]) + scores.nats[0]) < TOLERANCE
            checks.note("the cost is that of the distribution", bool(is_same))
        digest.update(scores.nats.data)
        bits += float(scores.nats.sum()) / np.log(2)
        previous = int(tokens[-1])
        checks.note("the bound holds", mixer.regret_bits <= mixer.bound_bits)
        watch(mixer.cache, checks)
    with tempfile.TemporaryDirectory() as folder:
        mixer.save(path := Path(folder) / "mixer")
        state = blake2b(path.read_bytes(), digest_size=16).hexdigest()
    found = {
        "costs": digest.hexdigest(),
        "state": state,
        "bits a token": round(bits / arguments.tokens, 6),
    }
    return found | ending(mixer.cache, checks)


def watch(cache: NgramCache, checks: Checks) -> None:
    """Note the memory after a call."""
    assert cache.memory_limit is not None
    checks.note("tables stay within the limit", cache.nbytes <= cache.memory_limit)
    if cache._n_evictions[0] > 0:
        checks.resident.append(resident_bytes())


def ending(cache: NgramCache, checks: Checks) -> dict[str, Any]:
    """How often the cache was full, and how far the process grew from then on.

    The tables shrink with each eviction and grow until the next one, so the peak of the first half
    of the stream is compared with that of the second half.
    """
    seen = checks.resident
    half = len(seen) // 2
    growth = max(seen[half:]) - max(seen[:half]) if half else 0
    checks.note("memory is flat once the cache is full", growth <= FLAT)
    checks.resident = []
    return {"evictions": cache.stats()["n_evictions"], "growth in bytes": growth}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """One run: what it found, what it checked, and its seconds."""
    checks, started = Checks(), time.perf_counter()
    found = {"cache": soak_cache(arguments, checks), "mixer": soak_mixer(arguments, checks)}
    seconds = round(time.perf_counter() - started, 1)
    return {"found": found, "tries": checks.tries, "failures": checks.failures, "seconds": seconds}


def in_a_process(arguments: argparse.Namespace, size: int, threads: int) -> dict[str, Any]:
    """`run` in a process of its own, with calls of at most `size` tokens."""
    options = {name: getattr(arguments, name) for name in ("tokens", "checks", "seed")}
    command = [sys.executable, __file__, "--size", str(size), "--threads", str(threads)]
    command += ["--memory-limit", arguments.memory_limit]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def bits_of(found: dict[str, Any]) -> dict[str, Any]:
    """What two runs must have in common: all but the memory of the process."""
    return {
        part: {name: value for name, value in figures.items() if name != "growth in bytes"}
        for part, figures in found.items()
    }


def main() -> int:
    """Two runs, and the table of their checks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=62_000_000)
    parser.add_argument(
        "--checks", type=int, default=10_000, help="positions whose sums are checked"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-limit", default="64MiB")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.size is not None:
        print(json.dumps(run(arguments)))
        return 0
    runs = [in_a_process(arguments, BLOCK, 1), in_a_process(arguments, 10_007, 2)]
    rows = [(name, sum(r["tries"][name] for r in runs), sum(r["failures"][name] for r in runs))
            for name in runs[0]["tries"]]  # fmt: skip
    is_same = bits_of(runs[0]["found"]) == bits_of(runs[1]["found"])
    rows.append(("the second run has the same bits", 1, int(not is_same)))
    print(f"{arguments.tokens:,} tokens, seed {arguments.seed}, limit {arguments.memory_limit}")
    for name, tries, failures in [("test", "tries", "failures"), *rows]:
        print(f"{name:42}{tries:>12}{failures:>10}")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(runs, indent=2) + "\n")
    return int(any(failures for *_, failures in rows))


if __name__ == "__main__":
    sys.exit(main())
