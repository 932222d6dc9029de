"""The exact table of one order: nodes found or made by the key (node of the prefix, last token).

``entries`` (E, 8) uint32 holds the n-grams in the order of their first appearance, one row each,
with the columns below; the longest order is never a context and stores the first four columns only.
``slots`` (2**bits,) uint32 is the index over them, in lines of 16 words: a cache line, compared at
once. A word is 0 where it is empty, else ``tag << bits | row + 1``. The hash of a key names its
line and the tag; where the line is full, the next one takes the word. A line fills from its first
lane up, so a search ends at the first line with an empty lane, nearly always the first of all.
A tag is never trusted: prefix and token are compared before a row is returned.
"""

import numpy as np

from ngrammix.kernels.jit import LANES, bit_length, jit, lanes_equal, lowest, prefetch

PREFIX, TOKEN, LAST, COUNT, FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(8)
COLUMNS = 8  # 32 bytes: half a cache line
COLUMNS_LONGEST = 4  # the last four speak of followers, which the longest n-grams have none of

NONE = 0xFFFFFFFF  # no such node: fewer tokens since the boundary, or never seen

# The column LAST: BEFORE_FIRST more than the tokens learned when the n-gram last ended, so that the
# context of an update has its place even before the first token; and two flags: that it ended at
# two places, and that when it was made its suffix was made as well, which knew as much.
BEFORE_FIRST = 32
REPEATED = 1 << 31
REDUNDANT = 1 << 30
LAST_MASK = REDUNDANT - 1

PREFETCH_DISTANCE = (
    16  # positions between the stages of `find`: about the misses that one core keeps in flight
)

_LAST, _REPEATED, _REDUNDANT = np.uint32(LAST_MASK), np.uint32(REPEATED), np.uint32(REDUNDANT)
_ZERO, _ONE = np.uint64(0), np.uint64(1)
_WORD = np.uint64(32)
_LANES = np.uint64(LANES)
_FULL = np.uint64(2**LANES - 1)
_CODE_BITS = np.uint64(28)  # of a line and a tag together, whatever the size: 32 - log2(LANES)
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
    """Line and tag of a key, as one number < 2**28: the line is what `bits` takes from its top."""
    return hash_key(prefix, token) >> _DROPPED


@jit
def first_lane(code, bits):
    """First word of the line at which the search for `code` begins: uint64."""
    return (code >> (_WORD - bits)) * _LANES


@jit
def find_row(slots, bits, entries, prefix, token, code):
    """(row, slot) of the key; row is NONE at the empty slot where it would be put."""
    rows = (_ONE << bits) - _ONE
    tag = code & ((_ONE << (_WORD - bits)) - _ONE)
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        candidates = lanes_equal(slots, first, bits, tag) & ~empty
        while candidates != _ZERO:
            slot = first + lowest(candidates)
            row = (np.uint64(slots[slot]) & rows) - _ONE
            if entries[row, PREFIX] == prefix and entries[row, TOKEN] == token:
                return row, slot
            candidates &= candidates - _ONE
        if empty != _ZERO:
            return np.uint64(NONE), first + lowest(empty)
        first = (first + _LANES) & rows


@jit
def put(slots, bits, code, row):
    """Enter `row` under `code`, whose key is not in `slots`, in the first lane that is empty."""
    rows = (_ONE << bits) - _ONE
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        if empty != _ZERO:
            slots[first + lowest(empty)] = word_of(code, bits, row)
            return
        first = (first + _LANES) & rows


@jit
def word_of(code, bits, row):
    """Index word of `row` under `code`: uint32."""
    return np.uint32((code << bits | (np.uint64(row) + _ONE)) & np.uint64(NONE))


@jit
def find(tokens, contexts, grams, seen, is_new, slots, bits, entries, used, position, makes):
    """Nodes of the n-grams that end at each token, found from the nodes of their prefixes.

    tokens (T,) int64; contexts (T + 1,) uint32, node of the k - 1 tokens before each position;
    grams (T + 1,) uint32, node of the k tokens before each position: [1:] is written; seen (T + 1,)
    uint32, when those k tokens ended last, as LAST has it: [1:] is written; is_new (T,) bool: on
    entry whether the n-gram of k - 1 tokens was made here, on exit the same of that of k; used (1,)
    int64, rows in use, raised; position: of tokens[0] in the stream. If `makes`, what is missing is
    appended, and each n-gram stamped as seen; there is room for T more rows, all zero. Else nothing
    is changed.

    Three stages, each PREFETCH_DISTANCE positions before the next, so that no load is waited for:
    fetch the line; compare it and fetch the row; verify the row, or append one.
    """
    n_tokens = len(tokens)
    bits = np.uint64(bits)
    rows = (_ONE << bits) - _ONE
    tags = (_ONE << (_WORD - bits)) - _ONE
    codes = np.empty(n_tokens, np.uint32)
    for i in range(n_tokens):
        codes[i] = code_key(contexts[i], tokens[i])
    n_rows = np.uint64(used[0])
    for i in range(n_tokens + 2 * PREFETCH_DISTANCE):
        if i < n_tokens:
            prefetch(slots, first_lane(np.uint64(codes[i]), bits))

        j = i - PREFETCH_DISTANCE
        if 0 <= j < n_tokens:
            code = np.uint64(codes[j])
            first = first_lane(code, bits)
            empty = lanes_equal(slots, first, _ZERO, _ZERO)
            candidates = lanes_equal(slots, first, bits, code & tags) & ~empty
            if candidates != _ZERO:
                prefetch(entries, (np.uint64(slots[first + lowest(candidates)]) & rows) - _ONE)

        j = i - 2 * PREFETCH_DISTANCE
        if j < 0:
            continue
        prefix = contexts[j]
        if prefix == NONE:
            grams[j + 1] = NONE
            seen[j + 1] = 0
            continue
        token = tokens[j]
        code = np.uint64(codes[j])
        row, slot = find_row(slots, bits, entries, prefix, token, code)
        now = np.uint32(position + j + 1 + BEFORE_FIRST)
        if row != NONE:
            last = entries[row, LAST]
            seen[j + 1] = last & _LAST
            if makes:
                is_elsewhere = (last & _LAST) != now
                flags = np.uint32(last & ~_LAST) | _REPEATED * np.uint32(is_elsewhere)
                entries[row, LAST] = max(np.uint32(last & _LAST), now) | flags
                is_new[j] = False
        else:
            seen[j + 1] = 0
            if makes:
                row = n_rows
                n_rows += _ONE
                slots[slot] = word_of(code, bits, row)
                entries[row, PREFIX] = prefix
                entries[row, TOKEN] = token
                entries[row, LAST] = now | _REDUNDANT * np.uint32(is_new[j])
                is_new[j] = True
        grams[j + 1] = row
    used[0] = n_rows


@jit
def find_orders(
    tokens, shortest, longest, nodes, ended, grams, seen, is_new, slots, entries, used, position
):
    """Find or make the n-grams of `shortest` to `longest` tokens, once all shorter ones are found.

    nodes, ended (order + 1,) uint32: the column of `grams` and `seen` before tokens[0]; of these
    orders, replaced by the last. grams, seen (order + 1, more than T) uint32, slots, entries and
    used, tuples of order + 1: for each order what `find` takes.
    """
    n_tokens = len(tokens)
    for k in range(shortest, longest + 1):
        grams[k, 0], seen[k, 0] = nodes[k], ended[k]
        bits = bit_length(len(slots[k])) - 1
        find(
            tokens, grams[k - 1], grams[k], seen[k], is_new, slots[k], bits, entries[k], used[k],
            position, True,
        )  # fmt: skip
        nodes[k], ended[k] = grams[k, n_tokens], seen[k, n_tokens]


@jit
def fill_slots(slots, bits, entries, n_rows):
    """Index the first `n_rows` of `entries`, whose keys differ, in `slots`, which is all zero."""
    bits = np.uint64(bits)
    for row in range(n_rows):
        ahead = min(row + PREFETCH_DISTANCE, n_rows - 1)
        code = code_key(entries[ahead, PREFIX], entries[ahead, TOKEN])
        prefetch(slots, first_lane(code, bits))
        put(slots, bits, code_key(entries[row, PREFIX], entries[row, TOKEN]), row)
