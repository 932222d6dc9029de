"""Table: the n-grams of one order, the index over them, and how both grow."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.growing_array import GrowingArray
from ngrammix.kernels import index
from ngrammix.types import Nodes

MAX_LOAD = 0.75  # rows a slot: up to this load four of five lines have an empty lane
FIRST_BITS = 4  # one line of slots
SMALL_BITS = 24  # a smaller index (< 64 MiB) quadruples: doubling spent a fifth of the time


def bits_for(n_rows: int, bits: int = FIRST_BITS) -> int:
    """Log2 of the slots that an index of 2**bits slots grows to for `n_rows`."""
    while n_rows > MAX_LOAD * (1 << bits):
        bits += 2 if bits < SMALL_BITS else 1
    return bits


class Table:
    """All n-grams of one length, one a row, under the exact key (row of the suffix, first token).

    Parameters
    ----------
    n_rows : (1,) int64
        Where the table keeps the number of its n-grams; the kernels update it.
    is_longest : bool
        Whether the n-grams are of the longest order. Their rows are never contexts and take 16
        bytes instead of 32.

    Attributes
    ----------
    row_bytes : int
        Bytes of one row.
    """

    def __init__(self, n_rows: NDArray[np.int64], *, is_longest: bool) -> None:
        columns = index.COLUMNS_LONGEST if is_longest else index.COLUMNS
        self.row_bytes = 4 * columns
        self._rows = GrowingArray(1 << FIRST_BITS, columns)
        self._slots = GrowingArray(1 << FIRST_BITS, 1)
        self.n_rows = n_rows

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return int(self.n_rows[0])

    @property
    def rows(self) -> Nodes:
        """(capacity, columns) uint32, the columns of kernels/index.py; zero from row len() on."""
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
    def capacity(self) -> int:
        """Number of n-grams that the rows and the index can take."""
        return min(len(self.rows), int(MAX_LOAD * len(self.slots)))

    def nbytes_with(self, n_more: int) -> int:
        """Bytes of the rows in use and of the index, with `n_more` more n-grams, in whole pages."""
        n_rows = len(self) + n_more
        n_slots = 1 << bits_for(n_rows, self.bits)
        return self._rows.nbytes_of(n_rows) + self._slots.nbytes_of(n_slots)

    def grows_in_place(self, n_more: int) -> bool:
        """Whether ``reserve(n_more)`` leaves the rows at their address."""
        return self._rows.fits(self._capacity_for(len(self) + n_more))

    def reserve(self, n_more: int) -> None:
        """Make room for `n_more` more n-grams; after a MemoryError nothing has changed."""
        n_rows, n_slots = len(self) + n_more, len(self.slots)
        if n_rows > len(self.rows):
            self._rows.grow(self._capacity_for(n_rows))
        if n_rows > MAX_LOAD * n_slots:
            self._slots.grow(1 << bits_for(n_rows, self.bits))
            self.slots[:n_slots] = 0
            index.fill_slots(self.slots, self.bits, self.rows, len(self))

    def _capacity_for(self, n_rows: int) -> int:
        """Rows that the index for `n_rows` can take, so that the rows grow as rarely as it does."""
        return int(MAX_LOAD * (1 << bits_for(n_rows, self.bits)))

    def truncate(self, n_rows: int) -> None:
        """Drop the rows from `n_rows` on; the index is invalid until `reindex`."""
        self._rows.shrink(max(n_rows, 1 << FIRST_BITS), len(self))
        self.rows[n_rows:] = 0
        self.n_rows[0] = n_rows

    def reindex(self) -> None:
        """Rebuild the index, at most as large as the one of a new table with as many rows."""
        self._slots.shrink(1 << min(self.bits, bits_for(len(self))), len(self._slots))
        self._fill_index()

    def clear(self, *, keeps_pages: bool) -> None:
        """Drop all rows; their memory goes back to the system, unless `keeps_pages`."""
        for array, written in ((self._rows, len(self)), (self._slots, len(self._slots))):
            array.shrink(1 << FIRST_BITS, written, keeps_pages=keeps_pages)
            array.array[:] = 0
        self.n_rows[0] = 0

    def load_rows(self, rows: Nodes, bits: int) -> None:
        """Copy saved rows (N, columns) uint32 into this empty table, with 2**bits slots."""
        self._rows.grow(len(rows))
        self._slots.grow(1 << bits)
        self.rows[: len(rows)] = rows
        self.n_rows[0] = len(rows)
        self._fill_index()

    def _fill_index(self) -> None:
        self.slots[:] = 0
        index.fill_slots(self.slots, self.bits, self.rows, len(self))

    def add_root(self) -> None:
        """Add the n-gram of no tokens as row 0; it has no key and no slot."""
        self.n_rows[0] = 1
