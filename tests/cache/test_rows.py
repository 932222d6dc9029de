"""Rows of one and of two units: nothing is lost, moved or shared when units are taken and freed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrammix.kernels import eviction, index, rows

pytestmark = pytest.mark.kernels

OPEN = np.uint32(index.OPEN)


def empty():
    """Units for 64 n-grams, and their sizes."""
    return np.full((256, index.COLUMNS), 7, np.uint32), np.array(index.EMPTY)


def add(units, sizes, token, is_longest):
    """Row of a new n-gram (0, token) that occurred once, at time 100 + token."""
    return int(rows.add_single(units, sizes, np.uint32(0), np.uint32(token), 100 + token))


def move(units, sizes, row, token, is_longest):
    """Row of the same n-gram, opened; the counts are functions of the token."""
    row = int(rows.open_row(units, sizes, np.uint64(row), 0, np.uint32(token), is_longest))
    units[row, index.LAST_SEEN :] = 100 + token | OPEN, token + 1
    if not is_longest:
        units[row + 1] = 2 * token, 3 * token, 4 * token, 5 * token
    return row


def walked(units, sizes, is_longest):
    """The rows that a walk finds, ascending."""
    heads = np.empty(len(units), np.uint32)
    n = rows.list_rows(units, sizes[index.N_UNITS], is_longest, heads)
    assert n == sizes[index.N_ROWS]
    return heads[:n].tolist()


def check_all(units, sizes, row_of, opened, is_longest):
    """Every n-gram is where it should be, and every unit has one owner."""
    assert walked(units, sizes, is_longest) == sorted(row_of.values())
    owners = []
    for token, row in row_of.items():
        is_open = token in opened
        flag = OPEN if is_open else 0
        assert units[row].tolist() == [0, token, 100 + token | flag, is_open * (token + 1)]
        owners.append(row)
        if is_open and not is_longest:
            assert row % 2 == 0
            assert units[row + 1].tolist() == [2 * token, 3 * token, 4 * token, 5 * token]
            owners.append(row + 1)
    free, unit = [], sizes[index.FREE]
    while unit != index.NONE:
        free.append(int(unit))
        unit = units[unit, index.FIRST]
    assert len(free) == sizes[index.N_FREE]
    assert sorted(owners + free) == list(range(sizes[index.N_UNITS]))


@given(st.lists(st.integers(-1, 60), max_size=60), st.booleans())
def test_each_unit_has_one_owner(moves, is_longest):
    """-1 adds an n-gram; another number opens one of those that occurred once."""
    units, sizes = empty()
    row_of, opened = {}, set()
    for chosen in moves:
        once = sorted(row_of.keys() - opened)
        if chosen < 0 or not once:
            row_of[len(row_of)] = add(units, sizes, len(row_of), is_longest)
        else:
            token = once[chosen % len(once)]
            row_of[token] = move(units, sizes, row_of[token], token, is_longest)
            opened.add(token)
        check_all(units, sizes, row_of, opened, is_longest)
    n_units, first = int(sizes[index.N_UNITS]), int(sizes[index.FREE])
    assert rows.count_free(units, n_units, first) == sizes[index.N_FREE]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40), st.integers(0, 60),
    st.booleans(),
)  # fmt: skip
def test_what_stays_is_packed_together(ngrams, cutoff, is_longest):
    """n-grams are (is open, is opened when it is added); `cutoff` is the age of those that go."""
    units, sizes = empty()
    row_of, opened = {}, set()
    for token, (is_open, at_once) in enumerate(ngrams):
        row_of[token] = index.NONE if is_open and at_once else add(units, sizes, token, is_longest)
        if is_open and at_once:
            row_of[token] = move(units, sizes, index.NONE, token, is_longest)
            opened.add(token)
    for token, (is_open, at_once) in enumerate(ngrams):
        if is_open and not at_once:
            row_of[token] = move(units, sizes, row_of[token], token, is_longest)
            opened.add(token)
    now, n_units = 140, int(sizes[index.N_UNITS])
    new_rows = np.empty(n_units, np.uint32)
    sizes[:] = index.EMPTY
    eviction.compact(units, sizes, 1, is_longest, now, 2, cutoff, np.zeros(1, np.uint32), new_rows)
    kept = {}
    for token, row in row_of.items():
        age = (now - 100 - token) // (2 if token in opened else 1)
        if age < cutoff:
            kept[token] = int(new_rows[row])
        else:
            assert new_rows[row] == index.NONE
    check_all(units, sizes, kept, opened, is_longest)
    assert sizes[index.N_FREE] <= 1


def test_units_that_no_table_can_have_are_refused():
    for unit, column, value, is_longest in [
        (1, index.LAST_SEEN, OPEN, False),  # an odd one
        (2, index.LAST_SEEN, OPEN, False),  # the last one
        (1, index.SUFFIX, index.NONE, True),  # a free one with a time
    ]:
        units, sizes = empty()
        for token in range(3):
            add(units, sizes, token, is_longest)
        units[unit, column] = value
        heads = np.empty(3, np.uint32)
        assert rows.list_rows(units, 3, is_longest, heads) == -1


def test_a_list_of_free_units_that_has_no_end_is_refused():
    for unit, following in [(0, 1), (0, 9), (0, 2), (1, 1)]:
        units, sizes = empty()
        for token in range(3):
            add(units, sizes, token, True)
        for free in range(2):
            rows.free_unit(units, sizes, np.uint64(free))
        assert rows.count_free(units, 3, 1) == 2
        units[unit, index.FIRST] = following
        assert rows.count_free(units, 3, 1) == -1
