"""The rows of one table: taken for a new n-gram, moved when it is opened, walked in order."""

import numpy as np

from ngrammix.kernels.index import (
    COUNT,
    DISTINCT,
    FIRST,
    FOLLOWERS,
    FREE,
    HINT,
    HINT_COUNT,
    LAST_SEEN,
    N_FREE,
    N_ROWS,
    N_UNITS,
    NONE,
    START,
    SUFFIX,
    code_key,
    empty_slot,
    n_units_of,
    word_of,
)
from ngrammix.kernels.jit import jit

_START = np.uint32(START)
_ONE = np.uint64(1)


@jit
def list_rows(rows, n_units, is_longest, heads):
    """Write the rows of all n-grams to heads (>= N,) uint32, ascending, and return N.

    Returns -1 if the units are no rows of a table: two units begin at an odd one or at the last
    one, or a free one has counts.
    """
    row, n = 0, 0
    while row < n_units:
        size = n_units_of(rows, row, is_longest)
        if size == 2 and (row & 1 or row + 1 == n_units):
            return -1
        if rows[row, SUFFIX] != NONE:
            heads[n] = row
            n += 1
        elif rows[row, LAST_SEEN] != 0 or rows[row, COUNT] != 0:
            return -1
        row += size
    return n


@jit
def count_free(rows, n_units, first):
    """Length of the list of free units that begins with `first`, -1 if it is not a valid list."""
    unit, n = first, 0
    while unit != NONE:
        if unit >= n_units or rows[unit, SUFFIX] != NONE or n == n_units:
            return -1
        unit = np.int64(rows[unit, FIRST])
        n += 1
    return n


@jit
def take_unit(rows, sizes):
    """Number of a unit for an n-gram that takes one: a free one, or the next: uint64."""
    unit = np.uint64(sizes[FREE])
    if unit == NONE:
        unit = np.uint64(sizes[N_UNITS])
        sizes[N_UNITS] += 1
    else:
        sizes[FREE] = rows[unit, FIRST]
        sizes[N_FREE] -= 1
    return unit


@jit
def free_unit(rows, sizes, unit):
    """Make a unit free for the next n-gram that takes one."""
    rows[unit, SUFFIX], rows[unit, FIRST] = NONE, np.uint32(sizes[FREE])
    rows[unit, LAST_SEEN] = rows[unit, COUNT] = 0
    sizes[FREE] = unit
    sizes[N_FREE] += 1


@jit
def take_two_units(rows, sizes):
    """Number of the first of two units, which is even: uint64."""
    if sizes[N_UNITS] & 1:
        sizes[N_UNITS] += 1
        free_unit(rows, sizes, np.uint64(sizes[N_UNITS]) - _ONE)
    unit = np.uint64(sizes[N_UNITS])
    sizes[N_UNITS] += 2
    return unit


@jit
def add_single(rows, sizes, suffix, token, last_seen):
    """Row of a new n-gram that occurred once: uint64."""
    row = take_unit(rows, sizes)
    sizes[N_ROWS] += 1
    rows[row, SUFFIX], rows[row, FIRST] = suffix, token
    rows[row, LAST_SEEN], rows[row, COUNT] = last_seen, 0
    return row


@jit
def insert_single(slots, bits, rows, sizes, suffix, token, last_seen):
    """Add an n-gram that occurred once and is not stored, to the rows and to the index."""
    code = code_key(suffix, token)
    slot = empty_slot(slots, bits, code)
    slots[slot] = word_of(code, bits, add_single(rows, sizes, suffix, token, last_seen))


@jit
def open_row(rows, sizes, row, suffix, token, is_longest):
    """Row of an n-gram that is opened now: uint64. Its counts and LAST_SEEN are not written.

    row: where it is stored as having occurred once, NONE where it is not stored.
    """
    if row == NONE:
        sizes[N_ROWS] += 1
    elif is_longest:
        return row
    else:
        free_unit(rows, sizes, row)
    row = take_unit(rows, sizes) if is_longest else take_two_units(rows, sizes)
    rows[row, SUFFIX], rows[row, FIRST] = suffix, token
    return row


@jit
def clear_counts(rows, row, is_longest):
    """Write the counts of an open n-gram that is counted nowhere yet: all are 0."""
    rows[row, COUNT] = 0
    if not is_longest:
        rows[row + _ONE, :] = 0


@jit
def fill(rows, row, stream, after, is_longest):
    """Write the counts of an n-gram that occurred once, stream[after] being what followed it."""
    rows[row, COUNT] = 1
    if is_longest:
        return
    followers = row + _ONE
    follower = stream[after]
    is_followed = not follower & _START
    rows[followers, FOLLOWERS] = is_followed
    rows[followers, DISTINCT] = is_followed
    rows[followers, HINT] = follower if is_followed else np.uint32(0)
    rows[followers, HINT_COUNT] = is_followed
