"""The peer: the same exact tables, updated token by token instead of order by order."""

from dataclasses import dataclass

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


@dataclass(eq=False)
class State:
    """Tables of their final size and the state of the stream."""

    slots: tuple[NDArray[np.uint32], ...]
    bits: NDArray[np.uint64]
    rows: tuple[NDArray[np.uint32], ...]
    used: NDArray[np.int64]
    nodes: NDArray[np.uint32]
    seen: NDArray[np.uint32]
    counts_of_counts: NDArray[np.int64]

    def clear(self) -> None:
        """Forget everything; all of the memory is touched."""
        for table in (*self.slots, *self.rows, self.nodes, self.seen):
            table[...] = 0
        for counts in (self.used, self.counts_of_counts):
            counts[...] = 0


def allocate(order: int, sizes: NgramCache) -> State:
    """Empty tables as large as those of the cache `sizes`."""
    shapes = [(len(table), len(table.slots), table.rows.shape[1]) for table in sizes._tables]
    state = State(
        slots=tuple(GrowingArray(n_slots, 1).array.reshape(-1) for _, n_slots, _ in shapes),
        bits=np.array([table.bits for table in sizes._tables], np.uint64),
        rows=tuple(GrowingArray(n + 1, columns).array for n, _, columns in shapes),
        used=np.zeros(order + 1, np.int64),
        nodes=np.zeros(order + 1, np.uint32),
        seen=np.zeros(order + 1, np.uint32),
        counts_of_counts=np.zeros((order, 2), np.int64),
    )
    state.clear()
    return state


def observe(tokens: NDArray[np.int64], state: State, evidence: Evidence, start: int) -> None:
    """Write the evidence of `tokens` (T,), the first at position `start`, and learn them."""
    walk(
        tokens, state.slots, state.bits, state.rows, state.used, state.nodes, state.seen,
        state.counts_of_counts, evidence._columns, evidence.discounts, start,
    )  # fmt: skip


def seconds(tokens: NDArray[np.int64], state: State) -> float:
    """Seconds to observe the tokens, after the tables were cleared and touched."""

    def blocks() -> None:
        for start in range(0, len(tokens), BLOCK):
            block = tokens[start : start + BLOCK]
            evidence = Evidence.allocate(len(state.nodes) - 1, len(block))
            observe(block, state, evidence, start)

    state.clear()
    return timed(blocks)
