"""One context at a time: its rows, the counts after it, and n-grams counted beside the stream."""

import numpy as np

from ngrammix.kernels.count import add_follower
from ngrammix.kernels.index import (
    COUNT,
    LAST_SEEN,
    NONE,
    OPEN,
    START,
    TIME,
    TOKEN,
    code_key,
    find_row,
    word_of,
)
from ngrammix.kernels.jit import bit_length, jit
from ngrammix.kernels.rows import clear_counts, fill, insert_single, open_row

_OPEN, _TIME = np.uint32(OPEN), np.uint32(TIME)
_START, _TOKEN = np.uint32(START), np.uint32(TOKEN)
_ONE = np.uint64(1)


@jit
def find_suffixes(base, tokens, slots, rows, nodes):
    """Rows of the last 0, 1, ... of tokens (C,) int64, as far as they are open.

    nodes (>= C + 1,) int64 is written. Returns (n, after): the last n tokens are the longest open
    n-gram; after is 0, unless the last n + 1 occurred once: then the index just after them in the
    stream.
    """
    nodes[0] = 0
    for m in range(1, min(len(tokens), len(rows) - 1) + 1):
        token = np.uint32(tokens[len(tokens) - m])
        bits = np.uint64(bit_length(len(slots[m])) - 1)
        suffix = np.uint32(nodes[m - 1])
        row, _ = find_row(slots[m], bits, rows[m], suffix, token, code_key(suffix, token))
        if row == NONE:
            return m - 1, 0
        last_seen = rows[m][row, LAST_SEEN]
        if not last_seen & _OPEN:
            return m - 1, np.int64(last_seen) - base
        nodes[m] = row
    return min(len(tokens), len(rows) - 1), 0


@jit
def matched_length(stream, after, tokens, shortest):
    """Number of the last of tokens (C,) that also stand just before stream[after].

    The last `shortest` >= 1 tokens do.
    """
    m = shortest
    while m < len(tokens) and not stream[after - m] & _START:
        if stream[after - m - 1] & _TOKEN != tokens[len(tokens) - m - 1]:
            break
        m += 1
    return m


@jit
def follower_counts(stream, base, tokens, candidates, slots, rows, counts):
    """Write the count of each candidate after the last 0, 1, ..., C of the tokens before it.

    tokens (C + 1,) int64: the context, and a word that is overwritten. candidates (N,) int64.
    counts (C + 1, N) uint32, all zero, is written.
    """
    nodes = np.empty(len(tokens) + 1, np.int64)
    for j in range(len(candidates)):
        tokens[-1] = candidates[j]
        n, after = find_suffixes(base, tokens, slots, rows, nodes)
        for m in range(1, n + 1):
            counts[m - 1, j] = rows[m][nodes[m], COUNT]
        if after > 0:
            counts[n : matched_length(stream, after, tokens, n + 1), j] = 1


@jit
def update(stream, base, tokens, now, slots, rows, sizes, counts_of_counts):
    """Count the last of tokens (C,) int64 after those before it, apart from the stream.

    Every n-gram of the tokens is opened, as seen just before time `now`. The caller has reserved
    2 C more n-grams in each table.
    """
    n_tokens, order = len(tokens), len(rows) - 1
    nodes = np.zeros((order + 1, n_tokens + 1), np.int64)
    for i in range(n_tokens):
        time = np.uint32(now - (n_tokens - 1 - i))
        after = 0
        for m in range(1, min(i + 2, order) + 1):
            bits = np.uint64(bit_length(len(slots[m])) - 1)
            suffix = np.uint32(nodes[m - 1, i + 1])
            if after > 0 and not stream[after - m + 1] & _START:  # of the suffix opened just now
                first = np.uint32(stream[after - m] & _TOKEN)
                seen = np.uint32(after + base)
                insert_single(slots[m], bits, rows[m], sizes[m], suffix, first, seen)
            if m <= i + 1:
                token = np.uint32(tokens[i - m + 1])
                code = code_key(suffix, token)
                row, slot = find_row(slots[m], bits, rows[m], suffix, token, code)
                last_seen = np.uint32(0) if row == NONE else rows[m][row, LAST_SEEN]
                after = 0
                if not last_seen & _OPEN:
                    row = open_row(rows[m], sizes[m], row, suffix, token, m == order)
                    slots[m][slot] = word_of(code, bits, row)
                    if last_seen > 0:
                        after = np.int64(last_seen) - base
                        fill(rows[m], row, stream, np.uint64(after), m == order)
                    else:
                        clear_counts(rows[m], row, m == order)
                rows[m][row, LAST_SEEN] = max(last_seen & _TIME, time) | _OPEN
                nodes[m, i + 1] = row
    for k in range(min(n_tokens, order) - 1, -1, -1):
        gram = np.uint64(nodes[k + 1, n_tokens])
        before = rows[k + 1][gram, COUNT]
        rows[k + 1][gram, COUNT] = before + np.uint32(1)
        context = np.uint64(nodes[k, n_tokens - 1])
        add_follower(rows[k], context, before, np.uint32(tokens[-1]), counts_of_counts[k])
        if before > 0:
            break
