"""The exact table of one order: nodes found or made by the key (node of the prefix, last token).

``entries`` (E, 8) uint32 holds the n-grams in the order of their first appearance, one row each,
with the columns below; the longest order is never a context and stores the first four columns only.
``slots`` (2**bits,) uint32 is the index over them: 0 is empty, else ``tag << bits | row + 1``. Rows
take at most `bits` bits, so the rest of the word is a tag from the hash: it tells a stranger
from the n-gram sought without a visit to its row, which would be a cache miss. A tag is never
trusted: prefix and token are compared before a row is returned.
"""

import numpy as np

from ngrammix.kernels.jit import jit, prefetch

PREFIX, TOKEN, LAST, COUNT, FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(8)
COLUMNS = 8  # 32 bytes: half a cache line
COLUMNS_LONGEST = 4  # the last four speak of followers, which the longest n-grams have none of

NONE = 0xFFFFFFFF  # no such node: fewer tokens since the boundary, or never seen

# What `find` does with n-grams: look only; make what is missing; make, and stamp each as just seen.
LOOK, MAKE, STAMP = range(3)

AHEAD = 16  # positions between the stages of `find`: about the misses that one core keeps in flight

_ONE = np.uint64(1)
_WORD = np.uint64(32)
_HASH_BITS = np.uint64(64)
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
def first_candidate(slots, bits, code, slot):
    """First slot at or after `slot` that is empty or bears the tag of the hash `code`: uint64."""
    tag = code & ((_ONE << (_WORD - bits)) - _ONE)
    last = (_ONE << bits) - _ONE
    while True:
        word = np.uint64(slots[slot])
        if word == 0 or word >> bits == tag:
            return slot
        slot = (slot + _ONE) & last


@jit
def find_row(slots, bits, entries, prefix, token, code, slot):
    """(row, slot) of the key, sought from `slot` on; row is NONE at the empty slot that ends it."""
    rows = (_ONE << bits) - _ONE
    while True:
        slot = first_candidate(slots, bits, code, slot)
        word = np.uint64(slots[slot])
        if word == 0:
            return np.uint64(NONE), slot
        row = (word & rows) - _ONE
        if entries[row, PREFIX] == prefix and entries[row, TOKEN] == token:
            return row, slot
        slot = (slot + _ONE) & rows


@jit
def find(tokens, contexts, grams, seen, slots, bits, entries, used, position, mode):
    """Nodes of the n-grams that end at each token, found from the nodes of their prefixes.

    tokens (T,) int64; contexts (T + 1,) uint32, node of the k - 1 tokens before each position;
    grams (T + 1,) uint32, node of the k tokens before each position: [1:] is written; seen (T + 1,)
    uint32, where those k tokens stood last, 0 for never: [1:] is written; used (1,) int64, rows in
    use, raised; position: of tokens[0] in the stream. There is room for T more rows, all zero.

    Three stages, each AHEAD positions before the next, so that no load is waited for: fetch the
    home slot; walk the index and fetch the row; compare the row, or append it. A row appended in
    between fills an empty slot, never one passed over, so the walk may go on where it stopped.
    """
    n_tokens = len(tokens)
    bits = np.uint64(bits)
    shift = _HASH_BITS - bits
    rows = (_ONE << bits) - _ONE
    capacity = np.uint64(len(entries))
    reached = np.empty(n_tokens, np.uint64)  # the slot at which the second stage stopped
    for i in range(n_tokens + 2 * AHEAD):
        if i < n_tokens and contexts[i] != NONE:
            slot = hash_key(contexts[i], tokens[i]) >> shift
            prefetch(slots, slot)

        j = i - AHEAD
        if 0 <= j < n_tokens and contexts[j] != NONE:
            code = hash_key(contexts[j], tokens[j])
            slot = first_candidate(slots, bits, code, code >> shift)
            reached[j] = slot
            word = np.uint64(slots[slot])
            if word != 0:
                prefetch(entries, (word & rows) - _ONE)

        j = i - 2 * AHEAD
        if j < 0:
            continue
        prefix = contexts[j]
        if prefix == NONE:
            grams[j + 1] = NONE
            seen[j + 1] = 0
            continue
        token = tokens[j]
        slot = reached[j]
        # Most searches end where the second stage stopped; only the others need the hash again.
        row = (np.uint64(slots[slot]) & rows) - _ONE  # beyond all rows where the slot is empty
        if row >= capacity or entries[row, PREFIX] != prefix or entries[row, TOKEN] != token:
            code = hash_key(prefix, token)
            row, slot = find_row(slots, bits, entries, prefix, token, code, slot)
            if row == NONE and mode != LOOK:
                row = np.uint64(used[0])
                used[0] += 1
                slots[slot] = np.uint32((code << bits | (row + _ONE)) & np.uint64(NONE))
                entries[row, PREFIX] = prefix
                entries[row, TOKEN] = token
        grams[j + 1] = row
        seen[j + 1] = 0
        if mode == STAMP:
            seen[j + 1] = entries[row, LAST]
            entries[row, LAST] = position + j + 1


@jit
def fill_slots(slots, bits, entries, n_rows):
    """Index the first `n_rows` of `entries`, whose keys differ, in `slots`, which is all zero."""
    bits = np.uint64(bits)
    last = (_ONE << bits) - _ONE
    for row in range(n_rows):
        ahead = min(row + AHEAD, n_rows - 1)
        code = hash_key(entries[ahead, PREFIX], entries[ahead, TOKEN])
        prefetch(slots, code >> (_HASH_BITS - bits))
        code = hash_key(entries[row, PREFIX], entries[row, TOKEN])
        slot = code >> (_HASH_BITS - bits)
        while slots[slot] != 0:
            slot = (slot + _ONE) & last
        slots[slot] = np.uint32((code << bits | np.uint64(row + 1)) & np.uint64(NONE))
