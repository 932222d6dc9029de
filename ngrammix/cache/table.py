"""Table: the n-grams of one order, the index over them, and how both grow."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.growing_array import GrowingArray
from ngrammix.kernels import index, rows
from ngrammix.types import Nodes

MAX_LOAD = 0.75  # rows a slot: up to this load four of five lines have an empty lane
FIRST_BITS = 4  # one line of slots
UNIT_BYTES = 4 * index.COLUMNS
UNITS_A_ROW = 2  # room for an n-gram that is opened, or that occurs once and leaves a unit free
SMALL_BITS = 24  # a smaller index (< 64 MiB) quadruples: doubling spent a fifth of the time


def bits_for(n_rows: int, n_units: int, bits: int = FIRST_BITS) -> int:
    """Log2 of the slots that an index of 2**bits slots grows to for so many rows and units."""
    while n_rows > MAX_LOAD * (1 << bits) or n_units >= 2 << bits:  # a word has bits + 1 for a unit
        bits += 2 if bits < SMALL_BITS else 1
    return bits


class Table:
    """All n-grams of one length, one a row, under the exact key (row of the suffix, first token).

    Parameters
    ----------
    sizes : (4,) int64
        Where the table keeps its sizes, the columns of kernels/index.py; the kernels update them.
    is_longest : bool
        Whether the n-grams are of the longest order. Their rows are never contexts and take one
        unit of 16 bytes.
    """

    def __init__(self, sizes: NDArray[np.int64], *, is_longest: bool) -> None:
        self.is_longest = is_longest
        self._rows = GrowingArray(1 << FIRST_BITS, index.COLUMNS)
        self._slots = GrowingArray(1 << FIRST_BITS, 1)
        self.sizes = sizes
        self.sizes[:] = index.EMPTY

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return int(self.sizes[index.N_ROWS])

    @property
    def n_units(self) -> int:
        """Units of 16 bytes in use, free ones included."""
        return int(self.sizes[index.N_UNITS])

    @property
    def rows(self) -> Nodes:
        """(capacity, 4) uint32: the units, laid out as in kernels/index.py."""
        return self._rows.array

    @property
    def slots(self) -> Nodes:
        """(2**bits,) uint32: the index over the rows, laid out as in kernels/index.py."""
        return self._slots.array.reshape(-1)

    @property
    def bits(self) -> int:
        """Log2 of the number of slots."""
        return len(self.slots).bit_length() - 1

    @property
    def content_bytes(self) -> int:
        """Bytes of the n-grams, without the index and the free units."""
        return UNIT_BYTES * (self.n_units - int(self.sizes[index.N_FREE]))

    @property
    def max_sizes(self) -> tuple[int, int]:
        """Units and n-grams that the table can take as it is."""
        n_slots = len(self.slots)
        return min(len(self.rows), 2 * n_slots - 1), int(MAX_LOAD * n_slots)

    def list_rows(self) -> Nodes:
        """(N,) uint32: the rows of all n-grams, ascending."""
        heads = np.empty(self.n_units, np.uint32)
        return heads[: rows.list_rows(self.rows, self.n_units, self.is_longest, heads)]

    def nbytes_with(self, n_more: int) -> int:
        """Bytes of the units and the index with `n_more` more n-grams, in whole pages."""
        n_slots = 1 << self._bits_with(n_more)
        return self._rows.nbytes_of(self._units_with(n_more)) + self._slots.nbytes_of(n_slots)

    def grows_in_place(self, n_more: int) -> bool:
        """Whether ``reserve(n_more)`` leaves the rows at their address."""
        return self._rows.fits(self._capacity_with(n_more))

    def reserve(self, n_more: int) -> None:
        """Make room for `n_more` more n-grams, and to open as many as half of that.

        After a MemoryError nothing has changed.
        """
        if self._units_with(n_more) > len(self.rows):
            self._rows.grow(self._capacity_with(n_more))
        bits, n_slots = self._bits_with(n_more), len(self.slots)
        if bits > self.bits:
            self._slots.grow(1 << bits)
            self.slots[:n_slots] = 0
            self._fill_index()

    def _units_with(self, n_more: int) -> int:
        """Units in use with `n_more` more n-grams, at most."""
        return self.n_units + UNITS_A_ROW * n_more

    def _bits_with(self, n_more: int) -> int:
        """Log2 of the slots with `n_more` more n-grams."""
        return bits_for(len(self) + n_more, self._units_with(n_more), self.bits)

    def _capacity_with(self, n_more: int) -> int:
        """Units with `n_more` more n-grams: as many as their index takes, to grow as rarely."""
        return 2 << self._bits_with(n_more)

    def cut(self, n_before: int) -> None:
        """Give back what is beyond the units in use, `n_before` of which were; index them anew.

        The index is at most as large as that of a new table with as many n-grams.
        """
        self._rows.shrink(max(self.n_units, 1 << FIRST_BITS), n_before)
        bits = min(self.bits, bits_for(len(self), self.n_units))
        self._slots.shrink(1 << bits, len(self._slots))
        self.slots[:] = 0
        self._fill_index()

    def clear(self, *, keeps_pages: bool) -> None:
        """Drop all n-grams; their memory goes back to the system, unless `keeps_pages`."""
        for array, written in ((self._rows, self.n_units), (self._slots, len(self._slots))):
            array.shrink(1 << FIRST_BITS, written, keeps_pages=keeps_pages)
            array.array[:] = 0
        self.sizes[:] = index.EMPTY

    def load_rows(self, saved: Nodes, bits: int, first_free: int) -> None:
        """Copy saved units (N, 4) uint32 into this empty table, with 2**bits slots."""
        self._rows.grow(len(saved))
        self._slots.grow(1 << bits)
        self.rows[: len(saved)] = saved
        self.sizes[index.N_UNITS] = len(saved)
        self.sizes[index.N_ROWS] = len(self.list_rows())
        self.sizes[index.N_FREE] = rows.count_free(saved, len(saved), first_free)
        self.sizes[index.FREE] = first_free
        self.slots[:] = 0
        self._fill_index()

    def _fill_index(self) -> None:
        """Enter every n-gram in `slots`, which is all zero."""
        index.fill_slots(self.slots, self.bits, self.rows, self.n_units, self.is_longest)

    def add_root(self) -> None:
        """Add the n-gram of no tokens as row 0, which is open; it has no key and no slot."""
        self.rows[0, index.LAST_SEEN] = index.OPEN
        self.sizes[:] = 2, 1, 0, index.NONE
