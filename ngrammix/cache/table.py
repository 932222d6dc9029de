"""Table: the n-grams of one order, their index, and how both grow."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.growing_array import GrowingArray
from ngrammix.kernels import find

Tokens = NDArray[np.int64]
Nodes = NDArray[np.uint32]

MAX_LOAD = 0.75  # rows per slot: up to here four in five lines are not full
FIRST_BITS = 4  # one line
SMALL_BITS = 24  # below 64 MiB an index quadruples: doubling spent a fifth of the time on refilling


def bits_for(n_rows: int, bits: int = FIRST_BITS) -> int:
    """Log2 of the slots that an index of 2**bits must have for `n_rows`."""
    while n_rows > MAX_LOAD * (1 << bits):
        bits += 2 if bits < SMALL_BITS else 1
    return bits


class Table:
    """All n-grams of one length, each a row under the exact key (node of its prefix, last token).

    Parameters
    ----------
    is_longest : bool
        Whether no n-gram is longer; such rows are never contexts and take 16 bytes, not 32.
    """

    def __init__(self, *, is_longest: bool) -> None:
        columns = find.COLUMNS_LONGEST if is_longest else find.COLUMNS
        self._rows = GrowingArray(1 << FIRST_BITS, columns)
        self._slots = GrowingArray(1 << FIRST_BITS, 1)
        self.used = np.zeros(1, np.int64)

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return int(self.used[0])

    @property
    def rows(self) -> NDArray[np.uint32]:
        """(capacity, columns) uint32, the columns of kernels/find.py; zero from row len() on."""
        return self._rows.array

    @property
    def slots(self) -> NDArray[np.uint32]:
        """(2**bits,) uint32: the index over the rows, as kernels/find.py says."""
        return self._slots.array.reshape(-1)

    @property
    def bits(self) -> int:
        """Log2 of the number of slots."""
        return len(self._slots).bit_length() - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the rows in use and of the index, in whole pages."""
        return self.nbytes_with(0)

    def nbytes_with(self, n_more: int) -> int:
        """What `nbytes` is with `n_more` further n-grams."""
        n_rows = len(self) + n_more
        n_slots = 1 << bits_for(n_rows, self.bits)
        return self._rows.nbytes_of(n_rows) + self._slots.nbytes_of(n_slots)

    def grows_in_place(self, n_more: int) -> bool:
        """Whether ``reserve(n_more)`` leaves the rows where they are."""
        return self._rows.fits(self._room(len(self) + n_more))

    def reserve(self, n_more: int) -> None:
        """Make room for `n_more` further n-grams; MemoryError leaves the table as it was."""
        n_rows, n_slots = len(self) + n_more, len(self._slots)
        if n_rows > len(self._rows):
            self._rows.grow(self._room(n_rows))
        if n_rows > MAX_LOAD * n_slots:
            self._slots.grow(1 << bits_for(n_rows, self.bits))
            self.slots[:n_slots] = 0
            find.fill_slots(self.slots, self.bits, self.rows, len(self))

    def _room(self, n_rows: int) -> int:
        """Rows that an index for `n_rows` takes: room for as many, lest every chunk has to grow."""
        return int(MAX_LOAD * (1 << bits_for(n_rows, self.bits)))

    def truncate(self, n_rows: int) -> None:
        """Forget the rows from `n_rows` on; until `reindex`, nothing is found."""
        self._rows.shrink(max(n_rows, 1 << FIRST_BITS), len(self))
        self.rows[n_rows:] = 0
        self.used[0] = n_rows

    def reindex(self) -> None:
        """Enter every row anew, in an index no larger than a new table's."""
        self._slots.shrink(1 << min(self.bits, bits_for(len(self))), len(self._slots))
        self._index()

    def clear(self, *, keeps_pages: bool) -> None:
        """Forget all rows; their memory stays for the next ones, or goes back to the system."""
        for array, written in ((self._rows, len(self)), (self._slots, len(self._slots))):
            array.shrink(1 << FIRST_BITS, written, keeps_pages=keeps_pages)
            array.array[:] = 0
        self.used[0] = 0

    def restore(self, rows: NDArray[np.uint32], bits: int) -> None:
        """Take over a saved table, its rows (N, columns) uint32, into this empty one."""
        self._rows.grow(len(rows))
        self._slots.grow(1 << bits)
        self.rows[: len(rows)] = rows
        self.used[0] = len(rows)
        self._index()

    def _index(self) -> None:
        self.slots[:] = 0
        find.fill_slots(self.slots, self.bits, self.rows, len(self))

    def add_root(self) -> None:
        """Make the one n-gram of no tokens, row 0; it has no prefix, so no key and no slot."""
        self.used[0] = 1

    def find(
        self, tokens: Tokens, contexts: Nodes, grams: Nodes, seen: Nodes, is_new: NDArray[np.bool_],
        position: int, makes: bool,
    ) -> None:  # fmt: skip
        """Walk `tokens` as kernels/find.py says; if it `makes` n-grams, `reserve` first."""
        find.find(
            tokens, contexts, grams, seen, is_new, self.slots, self.bits, self.rows, self.used,
            position, makes,
        )  # fmt: skip

    def lookup(self, prefixes: Nodes, tokens: Tokens) -> Nodes:
        """(N,) uint32: row of each key (prefix, token), NONE where it is not stored."""
        found, seen = np.empty((2, len(tokens) + 1), np.uint32)
        self.find(tokens, prefixes, found, seen, np.empty(0, np.bool_), 0, False)
        return found[1:]

    def token_counts(self, prefixes: Nodes, tokens: Tokens) -> NDArray[np.uint32]:
        """(N,) uint32: count of each token after the context at each prefix, 0 if not stored."""
        found = self.lookup(prefixes, tokens)
        is_stored = found != find.NONE
        counts = np.zeros(len(tokens), np.uint32)
        counts[is_stored] = self.rows[found[is_stored], find.COUNT]
        return counts
