"""The peer: the same exact tables walked token by token, all orders of one before the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ngrammix import memory
from ngrammix.cache import NgramCache
from ngrammix.evidence import Evidence
from ngrammix.kernels.count import (
    SEEN_AGE,
    SEEN_DISTINCT,
    SEEN_FOLLOWERS,
    SEEN_HINT,
    SEEN_HINT_COUNT,
    SEEN_TARGET_COUNT,
    discount,
)
from ngrammix.kernels.find import (
    COUNT,
    DISTINCT,
    FOLLOWERS,
    HINT,
    HINT_COUNT,
    LAST,
    PREFIX,
    TOKEN,
    find_row,
    hash_key,
)
from ngrammix.kernels.jit import jit


@jit
def walk(
    tokens, slots, bits, entries, used, nodes, seen, counts_of_counts, fields, discounts, start
):
    """Observe `tokens` (T,) int64 with tables that never grow; what NgramCache.observe writes.

    slots, entries: tuples of order + 1 arrays; bits (order + 1,) uint64; used (order + 1,) int64;
    nodes, seen (order + 1,) uint32: the state of the stream; the stream has no boundaries.
    """
    one, sixty_four, mask = np.uint64(1), np.uint64(64), np.uint64(0xFFFFFFFF)
    order = len(nodes) - 1
    rows = np.zeros(order + 1, np.uint32)
    for i in range(len(tokens)):
        token = tokens[i]
        position = start + i
        longest = min(order, position + 1)
        for k in range(1, longest + 1):
            prefix = nodes[k - 1]
            code = hash_key(prefix, token)
            row, slot = find_row(
                slots[k], bits[k], entries[k], prefix, token, code, code >> (sixty_four - bits[k])
            )
            if row == mask:
                row = np.uint64(used[k])
                used[k] += 1
                slots[k][slot] = np.uint32((code << bits[k] | (row + one)) & mask)
                entries[k][row, :] = 0
                entries[k][row, PREFIX] = prefix
                entries[k][row, TOKEN] = token
            rows[k] = row
        is_counted = True
        for k in range(order - 1, -1, -1):
            d = discount(counts_of_counts[k])
            discounts[k, i] = d
            if k >= longest:
                fields[k, i, :] = 0
                continue
            context = entries[k][nodes[k]]
            gram = entries[k + 1][rows[k + 1]]
            before = gram[COUNT]
            fields[k, i, SEEN_FOLLOWERS] = context[FOLLOWERS]
            fields[k, i, SEEN_DISTINCT] = context[DISTINCT]
            fields[k, i, SEEN_TARGET_COUNT] = before
            fields[k, i, SEEN_HINT] = context[HINT]
            fields[k, i, SEEN_HINT_COUNT] = context[HINT_COUNT]
            fields[k, i, SEEN_AGE] = position - seen[k] if seen[k] > 0 else 0
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
            seen[k] = entries[k][rows[k], LAST]
            entries[k][rows[k], LAST] = position + 1


@dataclass(eq=False)
class State:
    """Tables of their final size, empty, and the state of the stream."""

    slots: tuple[NDArray[np.uint32], ...]
    bits: NDArray[np.uint64]
    rows: tuple[NDArray[np.uint32], ...]
    used: NDArray[np.int64]
    nodes: NDArray[np.uint32]
    seen: NDArray[np.uint32]
    counts_of_counts: NDArray[np.int64]


def allocate(order: int, sizes: NgramCache) -> State:
    """Empty tables as large as those of `sizes`, so that the peer never grows."""
    shapes = [(len(table), table.slot_count, table.rows.shape[1]) for table in sizes.tables]
    return State(
        slots=tuple(memory.zeros(n_slots) for _, n_slots, _ in shapes),
        bits=np.array([n_slots.bit_length() - 1 for _, n_slots, _ in shapes], np.uint64),
        rows=tuple(memory.GrowingRows(n + 1, columns).array for n, _, columns in shapes),
        used=np.zeros(order + 1, np.int64),
        nodes=np.zeros(order + 1, np.uint32),
        seen=np.zeros(order + 1, np.uint32),
        counts_of_counts=np.zeros((order, 2), np.int64),
    )


def observe(tokens: NDArray[np.int64], state: State, evidence: Evidence, start: int) -> None:
    """Write the evidence of `tokens` (T,), the first at position `start`, and learn them."""
    walk(
        tokens, state.slots, state.bits, state.rows, state.used, state.nodes, state.seen,
        state.counts_of_counts, evidence.fields, evidence.discounts, start,
    )  # fmt: skip
