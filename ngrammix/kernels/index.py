"""The exact table of one order: n-grams found or inserted by (row of the suffix, first token).

``rows`` (capacity, 4) uint32 holds the n-grams in units of 16 bytes. An n-gram that occurred once
takes one unit; an open one takes two, the first of them even, so that both lie in one cache line.
The number of its first unit is its row. When an n-gram is opened it moves to a new row, and its old
unit is free for the next n-gram that occurs once. The n-grams of the longest order are never
contexts: they take one unit, open or not.

``slots`` (2**bits,) uint32 is an open-addressing index over the rows. It is divided into lines of
16 words, one cache line each, which one vector instruction compares. A word is 0 if it is empty,
else ``tag << (bits + 1) | row + 1``: there are fewer than 2**(bits + 1) units. The hash of a key
selects the line and the tag; if the line is full, the search goes on in the next line. A line fills
from its first lane up, so a search ends at the first line with an empty lane, which is nearly
always the first line. A tag is never trusted: suffix and token are compared before a row is
returned.
"""

import numpy as np

from ngrammix.kernels.jit import LANES, jit, lanes_equal, lowest, prefetch

# Columns of the first unit, and of the second one of an open n-gram, which describes its followers.
SUFFIX, FIRST, LAST_SEEN, COUNT = range(4)
FOLLOWERS, DISTINCT, HINT, HINT_COUNT = range(4)
COLUMNS = 4  # 16 bytes: a quarter of a cache line

# Sizes of a table: units in use, free ones included; n-grams; free units, and the first of them.
# A free unit has NONE for its SUFFIX, and the next free one for its FIRST.
N_UNITS, N_ROWS, N_FREE, FREE = range(4)

NONE = 0xFFFFFFFF  # no row
EMPTY = (0, 0, 0, NONE)  # the sizes of a table without n-grams

# LAST_SEEN packs the time just after the most recent occurrence with a flag. The time is the
# position plus BEFORE_FIRST, so that the contexts given to `update` at position 0 stay positive.
# OPEN: the n-gram occurred more than once, or `update` named it; its row holds its counts, and the
# n-grams that are one token longer to the left have rows. Without the flag, the n-gram occurred
# once, and the stream tells its counts; COUNT is 0.
BEFORE_FIRST = 64
OPEN = 1 << 31
TIME = OPEN - 1  # mask of the time

# A stored token of the stream has START where a document begins: no n-gram spans it.
START = 1 << 31
TOKEN = START - 1  # mask of the token

# Places between the stages of a pass: about the cache misses that one core keeps in flight.
PREFETCH_DISTANCE = 16

_OPEN = np.uint32(OPEN)
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
def slot_mask_of(bits):
    """The number of slots less 1: uint64."""
    return (_ONE << bits) - _ONE


@jit
def row_mask_of(bits):
    """Mask of row + 1 in a word: uint64."""
    return (_ONE << (bits + _ONE)) - _ONE


@jit
def first_lane(code, bits):
    """Index of the first word of the line where the search for `code` begins: uint64."""
    return (code >> (_WORD - bits)) * _LANES


@jit
def find_row(slots, bits, rows, suffix, token, code):
    """(row, slot) of the key; if it is not stored, (NONE, the empty slot where it belongs)."""
    row_mask = row_mask_of(bits)
    tag = code & (np.uint64(NONE) >> (bits + _ONE))
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        candidates = lanes_equal(slots, first, bits + _ONE, tag) & ~empty
        while candidates != _ZERO:
            slot = first + lowest(candidates)
            row = (np.uint64(slots[slot]) & row_mask) - _ONE
            if rows[row, SUFFIX] == suffix and rows[row, FIRST] == token:
                return row, slot
            candidates &= candidates - _ONE
        if empty != _ZERO:
            return np.uint64(NONE), first + lowest(empty)
        first = (first + _LANES) & slot_mask_of(bits)


@jit
def prefetch_row(slots, bits, rows, code):
    """Fetch the row that `code` will most likely find; its line was fetched before."""
    tag = code & (np.uint64(NONE) >> (bits + _ONE))
    first = first_lane(code, bits)
    empty = lanes_equal(slots, first, _ZERO, _ZERO)
    candidates = lanes_equal(slots, first, bits + _ONE, tag) & ~empty
    if candidates != _ZERO:
        word = np.uint64(slots[first + lowest(candidates)])
        prefetch(rows, (word & row_mask_of(bits)) - _ONE)


@jit
def word_of(code, bits, row):
    """Index word of `row` under `code`: uint32."""
    return np.uint32((code << (bits + _ONE) | (np.uint64(row) + _ONE)) & np.uint64(NONE))


@jit
def empty_slot(slots, bits, code):
    """The slot where a key with this code belongs, if it is not stored: uint64."""
    first = first_lane(code, bits)
    while True:
        empty = lanes_equal(slots, first, _ZERO, _ZERO)
        if empty != _ZERO:
            return first + lowest(empty)
        first = (first + _LANES) & slot_mask_of(bits)


@jit
def n_units_of(rows, row, is_longest):
    """Units from the first unit of an n-gram, or from a free unit, to the next such unit."""
    return 2 if rows[row, LAST_SEEN] & _OPEN and not is_longest else 1


@jit
def fill_slots(slots, bits, rows, n_units, is_longest):
    """Index the n-grams of the first `n_units` of `rows` in `slots`, which is all zero."""
    bits = np.uint64(bits)
    row = 0
    while row < n_units:
        later = min(row + PREFETCH_DISTANCE, n_units - 1)
        code = code_key(rows[later, SUFFIX], rows[later, FIRST])
        prefetch(slots, first_lane(code, bits))
        if rows[row, SUFFIX] != NONE:
            code = code_key(rows[row, SUFFIX], rows[row, FIRST])
            slots[empty_slot(slots, bits, code)] = word_of(code, bits, row)
        row += n_units_of(rows, row, is_longest)
