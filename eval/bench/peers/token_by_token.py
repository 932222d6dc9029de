"""The peer: exact tables with a row for every n-gram, updated token by token.

An n-gram is found by (row of the prefix, last token). Its row holds the columns below.
"""

import numpy as np
from numpy.typing import NDArray

from eval.bench.rounds import timed
from eval.bench.stream import BLOCK
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.cache.table import bits_for
from ngrammix.kernels.evidence import discount
from ngrammix.kernels.index import code_key, find_row, word_of
from ngrammix.kernels.jit import jit
from ngrammix.types import Counts

PREFIX, TOKEN, LAST_SEEN, COUNT, FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(8)
N_COUNTS = 6  # of a position: followers, distinct, of the token, hint, of the hint, age


@jit
def walk(
    tokens, slots, bits, entries, used, nodes, seen, counts_of_counts, fields, discounts, start
):
    """Observe `tokens` (T,) int64 with tables that never grow, as NgramCache.observe does.

    slots, entries: tuples of order + 1 arrays; bits (order + 1,) uint64; used (order + 1,) int64;
    nodes, seen (order + 1,) uint32: the state of the stream; the stream has no boundaries.
    """
    none = np.uint64(0xFFFFFFFF)
    order = len(nodes) - 1
    rows, ended = np.zeros(order + 1, np.uint32), np.zeros(order + 1, np.uint32)
    for i in range(len(tokens)):
        token = tokens[i]
        position = start + i
        longest = min(order, position + 1)
        for k in range(1, longest + 1):
            prefix = nodes[k - 1]
            code = code_key(prefix, token)
            row, slot = find_row(slots[k], bits[k], entries[k], prefix, token, code)
            if row == none:
                row = np.uint64(used[k])
                used[k] += 1
                slots[k][slot] = word_of(code, bits[k], row)
                entries[k][row, PREFIX] = prefix
                entries[k][row, TOKEN] = token
            ended[k] = entries[k][row, LAST_SEEN]
            entries[k][row, LAST_SEEN] = position + 1
            rows[k] = row
        is_counted = True
        for k in range(order - 1, -1, -1):
            discounts[k, i] = discount(counts_of_counts[k, 0], counts_of_counts[k, 1])
            if k >= longest:
                fields[k, i, :] = 0
                continue
            context = entries[k][nodes[k]]
            gram = entries[k + 1][rows[k + 1]]
            before = gram[COUNT]
            fields[k, i, 0], fields[k, i, 1] = context[FOLLOWERS], context[DISTINCT]
            fields[k, i, 2] = before
            fields[k, i, 3], fields[k, i, 4] = context[HINT], context[HINT_COUNT]
            fields[k, i, 5] = position - seen[k] if seen[k] > 0 else 0
            if is_counted:
                gram[COUNT] = before + 1
                context[FOLLOWERS] += 1
                if before == 0:
                    context[DISTINCT] += 1
                if before + 1 >= context[HINT_COUNT]:
                    context[HINT] = token
                    context[HINT_COUNT] = before + 1
                if before <= 2:
                    if before > 0:
                        counts_of_counts[k, before - 1] -= 1
                    if before < 2:
                        counts_of_counts[k, before] += 1
            is_counted = before == 0
        for k in range(1, longest + 1):
            nodes[k] = rows[k]
            seen[k] = ended[k]


class TokenByToken:
    """Tables of their final size for some tokens (T,), and the state of the stream."""

    def __init__(self, order: int, tokens: NDArray[np.int64]) -> None:
        self.order = order
        self.used = np.full(order + 1, len(tokens), np.int64)
        for _ in range(2):  # room for an n-gram a token, then for as many as there are
            self.bits = np.array([bits_for(int(n), int(n)) for n in self.used], np.uint64)
            self.slots = tuple(
                GrowingArray(1 << int(bits), 1).array.reshape(-1) for bits in self.bits
            )
            self.rows = tuple(
                GrowingArray(int(n) + 1, 4 if k == order else 8).array
                for k, n in enumerate(self.used)
            )
            self.clear()
            self.observe(tokens, 0)

    def clear(self) -> None:
        """Forget everything; all of the memory is touched."""
        self.used = np.zeros(self.order + 1, np.int64)
        self.nodes, self.seen = np.zeros((2, self.order + 1), np.uint32)
        self.counts_of_counts = np.zeros((self.order, 2), np.int64)
        for table in (*self.slots, *self.rows):
            table[...] = 0

    def observe(self, tokens: NDArray[np.int64], start: int) -> tuple[Counts, NDArray[np.float32]]:
        """Counts (order, T, 6) and discounts of `tokens` (T,), the first at position `start`."""
        counts = np.empty((self.order, len(tokens), N_COUNTS), np.uint32)
        discounts = np.empty((self.order, len(tokens)), np.float32)
        walk(
            tokens, self.slots, self.bits, self.rows, self.used, self.nodes, self.seen,
            self.counts_of_counts, counts, discounts, start,
        )  # fmt: skip
        return counts, discounts

    def seconds(self, tokens: NDArray[np.int64]) -> float:
        """Seconds to observe the tokens, after the tables were cleared and touched."""
        self.clear()
        starts = range(0, len(tokens), BLOCK)
        return timed(lambda: [self.observe(tokens[i : i + BLOCK], i) for i in starts])
