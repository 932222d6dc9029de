"""The exact table of one order: n-grams found or inserted by (row of the suffix, first token).

``rows`` (capacity, 8) uint32 holds one n-gram a row, in the order of insertion, with the columns
below. The n-grams of the longest order are never contexts, so their rows have the first four
columns only.

``slots`` (2**bits,) uint32 is an open-addressing index over the rows. It is divided into lines of
16 words, one cache line each, which one vector instruction compares. A word is 0 if it is empty,
else ``tag << bits | row + 1``. The hash of a key selects the line and the tag; if the line is full,
the search goes on in the next line. A line fills from its first lane up, so a search ends at the
first line with an empty lane, which is nearly always the first line. A tag is never trusted: suffix
and token are compared before a row is returned.
"""

import numpy as np

from ngrammix.kernels.jit import LANES, jit, lanes_equal, lowest, prefetch

SUFFIX, FIRST, LAST_SEEN, COUNT, FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(8)
COLUMNS = 8  # 32 bytes: half a cache line
COLUMNS_LONGEST = 4  # the last four columns describe followers, which the longest n-grams lack

NONE = 0xFFFFFFFF  # no row

# LAST_SEEN packs the time just after the most recent occurrence with a flag. The time is the
# position plus BEFORE_FIRST, so that the contexts given to `update` at position 0 stay positive.
# OPEN: the n-gram occurred more than once, or `update` named it; its row holds its counts, and the
# n-grams that are one token longer to the left have rows. Without the flag, only SUFFIX, FIRST and
# LAST_SEEN are valid: the n-gram occurred once, and the stream tells the rest.
BEFORE_FIRST = 64
OPEN = 1 << 31
TIME = OPEN - 1  # mask of the time

# A stored token of the stream has START where a document begins: no n-gram spans it.
START = 1 << 31
TOKEN = START - 1  # mask of the token

# Places between the stages of a pass: about the cache misses that one core keeps in flight.
PREFETCH_DISTANCE = 16

_ZERO, _ONE = np.uint64(0), np.uint64(1)
_WORD = np.uint64(32)
_LANES = np.uint64(LANES)
_CODE_BITS = np.uint64(28)  # of line and tag together, whatever the size: 32 - log2(LANES)
_DROPPED = np.uint64(64) - _CODE_BITS
# Odd multipliers: 2**64 / golden ratio, and the finalizer of MurmurHash3 (Appleby, public domain).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)


@jit
def hash_key(suffix, token):
    """Full-avalanche hash of (suffix, token), both < 2**32: uint64."""
    key = (np.uint64(suffix) << _WORD | np.uint64(token)) * _GOLDEN
    key = (key ^ (key >> _WORD)) * _MURMUR
    return key ^ (key >> _WORD)


@jit
def code_key(suffix, token):
    """Line and tag of a key as one number < 2**28: its top `bits` - 4 bits are the line."""
    return hash_key(suffix, token) >> _DROPPED


@jit
def first_lane(code, bits):
    """Index of the first word of the line where the search for `code` begins: uint64."""
    return (code >> (_WORD - bits)) * _LANES


@jit
def find_row(slots, bits, rows, suffix, token, code):
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
            if rows[row, SUFFIX] == suffix and rows[row, FIRST] == token:
                return row, slot
            candidates &= candidates - _ONE
        if empty != _ZERO:
            return np.uint64(NONE), first + lowest(empty)
        first = (first + _LANES) & row_mask


@jit
def prefetch_row(slots, bits, rows, code):
    """Fetch the row that `code` will most likely find; its line was fetched before."""
    row_mask = (_ONE << bits) - _ONE
    tag = code & ((_ONE << (_WORD - bits)) - _ONE)
    first = first_lane(code, bits)
    empty = lanes_equal(slots, first, _ZERO, _ZERO)
    candidates = lanes_equal(slots, first, bits, tag) & ~empty
    if candidates != _ZERO:
        prefetch(rows, (np.uint64(slots[first + lowest(candidates)]) & row_mask) - _ONE)


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
def fill_slots(slots, bits, rows, n_rows):
    """Index the first `n_rows` of `rows`, whose keys differ, in `slots`, which is all zero."""
    bits = np.uint64(bits)
    for row in range(n_rows):
        later = min(row + PREFETCH_DISTANCE, n_rows - 1)
        code = code_key(rows[later, SUFFIX], rows[later, FIRST])
        prefetch(slots, first_lane(code, bits))
        insert_slot(slots, bits, code_key(rows[row, SUFFIX], rows[row, FIRST]), row)
