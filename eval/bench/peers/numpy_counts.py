"""The peer in numpy: hashed counts, not verified, a chunk of tokens at a time."""

import numpy as np
from numpy.typing import NDArray

BITS = 22  # log2 of the buckets of each table, as in the Parameter Golf scripts
# Small chunks miss fewer recent tokens, large ones are faster.
CHUNKS = {"numpy counts": 1 << 13, "numpy counts, large chunks": 1 << 20}
DENSE = 1 << 16  # tokens from which np.bincount, linear in the buckets, is faster than np.add.at
# Odd multipliers of the hash, by the distance of a token from the target.
MULTIPLIERS = np.random.default_rng(0).integers(1 << 64, size=32, dtype=np.uint64) | np.uint64(1)


class HashedCounts:
    """Two tables an order, for contexts and n-grams; colliding keys share a count.

    Attributes
    ----------
    contexts, grams : (order, 2**BITS) uint32
        Row k: contexts of k tokens, and n-grams of k + 1.
    """

    def __init__(self, order: int) -> None:
        self.contexts, self.grams = np.zeros((2, order, 1 << BITS), np.uint32)

    def clear(self) -> None:
        """Forget everything; all of the memory is touched."""
        self.contexts[...] = 0
        self.grams[...] = 0

    def observe(self, tokens: NDArray[np.uint64], start: int, stop: int) -> NDArray[np.uint32]:
        """Counts before tokens[start:stop]; then these tokens are counted.

        Returns (2, order, stop - start) uint32: of the context of k tokens before each, and of the
        n-gram that ends there; 0 where fewer than k tokens came before.
        """
        order = len(self.contexts)
        counts = np.zeros((2, order, stop - start), np.uint32)
        contexts = np.zeros(stop - start, np.uint64)  # hash of the last k tokens before each
        targets = tokens[start:stop] * MULTIPLIERS[0]
        for k in range(min(order, stop)):
            first = max(start, k)
            here = slice(first - start, None)
            if k:
                contexts[here] ^= tokens[first - k : stop - k] * MULTIPLIERS[k]
            hashes = contexts[here], contexts[here] ^ targets[here]
            for i, table in enumerate((self.contexts[k], self.grams[k])):
                buckets = (hashes[i] >> np.uint64(64 - BITS)).astype(np.int64)
                counts[i, k, here] = table[buckets]
                if len(buckets) < DENSE:
                    np.add.at(table, buckets, 1)
                else:
                    table += np.bincount(buckets, minlength=1 << BITS).astype(np.uint32)
        return counts


def walk(tokens: NDArray[np.uint64], counts: HashedCounts, chunk: int) -> None:
    """Observe all tokens, `chunk` at a time."""
    for start in range(0, len(tokens), chunk):
        counts.observe(tokens, start, min(start + chunk, len(tokens)))
