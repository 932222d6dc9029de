"""The exact table of one order: n-grams found or inserted by (row of the prefix, last token).

``rows`` (capacity, 8) uint32 holds one n-gram a row, in the order of insertion, with the columns
below. The row number is the n-gram's *node*. The n-grams of the longest order are never contexts,
so their rows have the first four columns only.

``slots`` (2**bits,) uint32 is an open-addressing index over the rows. It is divided into lines of
16 words, one cache line each, which one vector instruction compares. A word is 0 if it is empty,
else ``tag << bits | row + 1``. The hash of a key selects the line and the tag; if the line is full,
the search goes on in the next line. A line fills from its first lane up, so a search ends at the
first line with an empty lane, which is nearly always the first line. A tag is never trusted: prefix
and token are compared before a row is returned.
"""

import numpy as np

from ngrammix.kernels.jit import LANES, bit_length, jit, lanes_equal, lowest, prefetch

PREFIX, TOKEN, LAST_SEEN, COUNT, FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(8)
COLUMNS = 8  # 32 bytes: half a cache line
COLUMNS_LONGEST = 4  # the last four columns describe followers, which the longest n-grams lack

NONE = 0xFFFFFFFF  # no node: too few tokens since the boundary, or the n-gram is not stored

# LAST_SEEN packs the position just after the most recent occurrence, plus BEFORE_FIRST so that the
# contexts given to `update` at position 0 stay positive, with two flags. REPEATED: the n-gram
# occurred at more than one position. REDUNDANT: its suffix was inserted at the same time, so the
# suffix carries the same counts.
BEFORE_FIRST = 32
REPEATED = 1 << 31
REDUNDANT = 1 << 30
LAST_SEEN_MASK = REDUNDANT - 1

# Positions between the stages of `find`: about the cache misses that one core keeps in flight.
PREFETCH_DISTANCE = 16

_POSITION = np.uint32(LAST_SEEN_MASK)
_REPEATED, _REDUNDANT = np.uint32(REPEATED), np.uint32(REDUNDANT)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_WORD = np.uint64(32)
_LANES = np.uint64(LANES)
_CODE_BITS = np.uint64(28)  # of line and tag together, whatever the size: 32 - log2(LANES)
_DROPPED = np.uint64(64) - _CODE_BITS
# Odd multipliers: 2**64 / golden ratio, and the finalizer of MurmurHash3 (Appleby, public domain).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)


@jit
def hash_key(prefix, token):
    """Full-avalanche hash of (prefix, token), both < 2**32: uint64."""
    key = (np.uint64(prefix) << _WORD | np.uint64(token)) * _GOLDEN
    key = (key ^ (key >> _WORD)) * _MURMUR
    return key ^ (key >> _WORD)


@jit
def code_key(prefix, token):
    """Line and tag of a key as one number < 2**28: its top `bits` - 4 bits are the line."""
    return hash_key(prefix, token) >> _DROPPED


@jit
def first_lane(code, bits):
    """Index of the first word of the line where the search for `code` begins: uint64."""
    return (code >> (_WORD - bits)) * _LANES


@jit
def find_row(slots, bits, rows, prefix, token, code):
    """(row, slot) of the key; if it is not stored, (NONE, the empty slot where it belongs)."""
    row_mask = (_ONE << bits) - _ONE
    tag = code & ((_ONE << (_WORD - bits)) - _ONE)
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        candidates = lanes_equal(slots, first, bits, tag) & ~empty
        while candidates != _ZERO:
            slot = first + lowest(candidates)
            row = (np.uint64(slots[slot]) & row_mask) - _ONE
            if rows[row, PREFIX] == prefix and rows[row, TOKEN] == token:
                return row, slot
            candidates &= candidates - _ONE
        if empty != _ZERO:
            return np.uint64(NONE), first + lowest(empty)
        first = (first + _LANES) & row_mask


@jit
def insert_slot(slots, bits, code, row):
    """Enter `row` under `code` in the first empty lane; its key must not be in `slots`."""
    slot_mask = (_ONE << bits) - _ONE
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        if empty != _ZERO:
            slots[first + lowest(empty)] = word_of(code, bits, row)
            return
        first = (first + _LANES) & slot_mask


@jit
def word_of(code, bits, row):
    """Index word of `row` under `code`: uint32."""
    return np.uint32((code << bits | (np.uint64(row) + _ONE)) & np.uint64(NONE))


@jit
def find(tokens, contexts, nodes, last_seen, is_new, slots, bits, rows, n_rows, position, insert):
    """Find the k-grams that end at each token from the nodes of their prefixes.

    tokens (T,) int64. contexts (T + 1,) uint32: node of the last k - 1 tokens before each position.
    nodes (T + 1,) uint32: node of the last k tokens before each position; [1:] is written, NONE if
    the k-gram is not stored. last_seen (T + 1,) uint32: LAST_SEEN of that k-gram without flags,
    before this occurrence, 0 if there was none; [1:] is written. is_new (T,) bool: on entry,
    whether the (k - 1)-gram was inserted at this token; on return, the same for the k-gram. slots,
    bits, rows: the table. n_rows (1,) int64: rows in use, updated. position: of tokens[0] in the
    stream.

    If `insert`, missing k-grams are appended and each LAST_SEEN is updated; the caller has reserved
    T more rows, all zero. If not `insert`, the table is unchanged.

    Three stages, each PREFETCH_DISTANCE positions behind the one before, hide the cache misses:
    fetch the line; compare it and fetch the row; verify the row, or append one.
    """
    n_tokens = len(tokens)
    bits = np.uint64(bits)
    row_mask = (_ONE << bits) - _ONE
    tag_mask = (_ONE << (_WORD - bits)) - _ONE
    codes = np.empty(n_tokens, np.uint32)
    for i in range(n_tokens):
        codes[i] = code_key(contexts[i], tokens[i])
    next_row = np.uint64(n_rows[0])
    for i in range(n_tokens + 2 * PREFETCH_DISTANCE):
        if i < n_tokens:
            prefetch(slots, first_lane(np.uint64(codes[i]), bits))

        j = i - PREFETCH_DISTANCE
        if 0 <= j < n_tokens:
            code = np.uint64(codes[j])
            first = first_lane(code, bits)
            empty = lanes_equal(slots, first, _ZERO, _ZERO)
            candidates = lanes_equal(slots, first, bits, code & tag_mask) & ~empty
            if candidates != _ZERO:
                prefetch(rows, (np.uint64(slots[first + lowest(candidates)]) & row_mask) - _ONE)

        j = i - 2 * PREFETCH_DISTANCE
        if j < 0:
            continue
        prefix = contexts[j]
        if prefix == NONE:
            nodes[j + 1] = NONE
            last_seen[j + 1] = 0
            continue
        token = tokens[j]
        code = np.uint64(codes[j])
        row, slot = find_row(slots, bits, rows, prefix, token, code)
        now = np.uint32(position + j + 1 + BEFORE_FIRST)
        if row != NONE:
            before = rows[row, LAST_SEEN]
            last_seen[j + 1] = before & _POSITION
            if insert:
                is_elsewhere = (before & _POSITION) != now
                flags = np.uint32(before & ~_POSITION) | _REPEATED * np.uint32(is_elsewhere)
                rows[row, LAST_SEEN] = max(np.uint32(before & _POSITION), now) | flags
                is_new[j] = False
        else:
            last_seen[j + 1] = 0
            if insert:
                row = next_row
                next_row += _ONE
                slots[slot] = word_of(code, bits, row)
                rows[row, PREFIX] = prefix
                rows[row, TOKEN] = token
                rows[row, LAST_SEEN] = now | _REDUNDANT * np.uint32(is_new[j])
                is_new[j] = True
        nodes[j + 1] = row
    n_rows[0] = next_row


@jit
def find_orders(
    tokens, shortest, longest, stream_nodes, stream_last_seen, nodes, last_seen, is_new, slots,
    rows, n_rows, position,
):  # fmt: skip
    """Find or insert the n-grams of `shortest` to `longest` tokens; shorter ones are found already.

    stream_nodes, stream_last_seen (order + 1,) uint32: column 0 of `nodes` and `last_seen`, the
    state of the stream before tokens[0]; for these orders, replaced by the state after the last
    token. nodes, last_seen (order + 1, more than T) uint32, and slots, rows and n_rows, tuples of
    order + 1 arrays: for each order, what `find` takes.
    """
    n_tokens = len(tokens)
    for k in range(shortest, longest + 1):
        nodes[k, 0], last_seen[k, 0] = stream_nodes[k], stream_last_seen[k]
        bits = bit_length(len(slots[k])) - 1
        find(
            tokens, nodes[k - 1], nodes[k], last_seen[k], is_new, slots[k], bits, rows[k],
            n_rows[k], position, True,
        )  # fmt: skip
        stream_nodes[k], stream_last_seen[k] = nodes[k, n_tokens], last_seen[k, n_tokens]


@jit
def fill_slots(slots, bits, rows, n_rows):
    """Index the first `n_rows` of `rows`, whose keys differ, in `slots`, which is all zero."""
    bits = np.uint64(bits)
    for row in range(n_rows):
        later = min(row + PREFETCH_DISTANCE, n_rows - 1)
        code = code_key(rows[later, PREFIX], rows[later, TOKEN])
        prefetch(slots, first_lane(code, bits))
        insert_slot(slots, bits, code_key(rows[row, PREFIX], rows[row, TOKEN]), row)
