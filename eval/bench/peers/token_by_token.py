"""The peer: the same exact tables, updated token by token instead of order by order."""

import numpy as np
from numpy.typing import NDArray

from eval.bench.rounds import timed
from eval.bench.stream import BLOCK
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.growing_array import GrowingArray
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.kernels import count, find
from ngrammix.kernels.jit import jit


@jit
def walk(
    tokens, slots, bits, entries, used, nodes, seen, counts_of_counts, fields, discounts, start
):
    """Observe `tokens` (T,) int64 with tables that never grow, as NgramCache.observe does.

    slots, entries: tuples of order + 1 arrays; bits (order + 1,) uint64; used (order + 1,) int64;
    nodes, seen (order + 1,) uint32: the state of the stream; the stream has no boundaries.
    """
    mask = np.uint64(0xFFFFFFFF)
    order = len(nodes) - 1
    rows, ended = np.zeros(order + 1, np.uint32), np.zeros(order + 1, np.uint32)
    for i in range(len(tokens)):
        token = tokens[i]
        position = start + i
        now = np.uint32(position + 1 + find.BEFORE_FIRST)
        longest = min(order, position + 1)
        is_new = False
        for k in range(1, longest + 1):
            prefix = nodes[k - 1]
            code = find.code_key(prefix, token)
            row, slot = find.find_row(slots[k], bits[k], entries[k], prefix, token, code)
            if row == mask:
                row = np.uint64(used[k])
                used[k] += 1
                slots[k][slot] = find.word_of(code, bits[k], row)
                entries[k][row, find.PREFIX] = prefix
                entries[k][row, find.TOKEN] = token
                entries[k][row, find.LAST_SEEN] = now | (find.REDUNDANT if is_new else 0)
                ended[k] = 0
                is_new = True
            else:
                ended[k] = entries[k][row, find.LAST_SEEN] & np.uint32(find.LAST_SEEN_MASK)
                entries[k][row, find.LAST_SEEN] = now | find.REPEATED
                is_new = False
            rows[k] = row
        is_counted = True
        for k in range(order - 1, -1, -1):
            d = count.discount(counts_of_counts[k])
            discounts[k, i] = d
            if k >= longest:
                fields[k, i, :] = 0
                continue
            context = entries[k][nodes[k]]
            gram = entries[k + 1][rows[k + 1]]
            before = gram[find.COUNT]
            fields[k, i, count.EVIDENCE_FOLLOWERS] = context[find.FOLLOWERS]
            fields[k, i, count.EVIDENCE_DISTINCT] = context[find.DISTINCT]
            fields[k, i, count.EVIDENCE_TARGET_COUNT] = before
            fields[k, i, count.EVIDENCE_HINT] = context[find.HINT]
            fields[k, i, count.EVIDENCE_HINT_COUNT] = context[find.HINT_COUNT]
            fields[k, i, count.EVIDENCE_AGE] = (
                position + find.BEFORE_FIRST - seen[k] if seen[k] > 0 else 0
            )
            if is_counted:
                gram[find.COUNT] = before + 1
                context[find.FOLLOWERS] += 1
                if before == 0:
                    context[find.DISTINCT] += 1
                if before + 1 >= context[find.HINT_COUNT]:
                    context[find.HINT] = token
                    context[find.HINT_COUNT] = before + 1
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
    """Tables of their final size, those of the cache `sizes`, and the state of the stream."""

    def __init__(self, order: int, sizes: NgramCache) -> None:
        tables = sizes._tables
        self.order = order
        self.slots = tuple(GrowingArray(len(t.slots), 1).array.reshape(-1) for t in tables)
        self.bits = np.array([t.bits for t in tables], np.uint64)
        self.rows = tuple(GrowingArray(len(t) + 1, t.rows.shape[1]).array for t in tables)
        self.used = np.zeros(order + 1, np.int64)
        self.nodes, self.seen = np.zeros((2, order + 1), np.uint32)
        self.counts_of_counts = np.zeros((order, 2), np.int64)
        self.clear()

    def clear(self) -> None:
        """Forget everything; all of the memory is touched."""
        for table in (*self.slots, *self.rows, self.nodes, self.seen):
            table[...] = 0
        for counts in (self.used, self.counts_of_counts):
            counts[...] = 0

    def observe(self, tokens: NDArray[np.int64], start: int) -> Evidence:
        """Evidence of `tokens` (T,), the first at position `start`; then they are learned."""
        evidence = Evidence.allocate(self.order, len(tokens))
        walk(
            tokens, self.slots, self.bits, self.rows, self.used, self.nodes, self.seen,
            self.counts_of_counts, evidence._columns, evidence.discounts, start,
        )  # fmt: skip
        return evidence

    def seconds(self, tokens: NDArray[np.int64]) -> float:
        """Seconds to observe the tokens, after the tables were cleared and touched."""
        self.clear()
        starts = range(0, len(tokens), BLOCK)
        return timed(lambda: [self.observe(tokens[i : i + BLOCK], i) for i in starts])
