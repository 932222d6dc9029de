"""Table: the n-grams of one order, their index, and how both grow."""

import numpy as np
from numpy.typing import NDArray

from ngrammix import memory
from ngrammix.kernels import find

Tokens = NDArray[np.int64]
Nodes = NDArray[np.uint32]

MAX_LOAD = 0.75  # rows per slot: the tags keep a search within one or two cache lines up to here
FIRST_BITS = 4
SMALL_BITS = 22  # below 16 MiB an index quadruples: doubling spent a fifth of the time on refilling


class Table:
    """All n-grams of one length, each a row under the exact key (node of its prefix, last token).

    Parameters
    ----------
    is_longest : bool
        Whether no n-gram is longer; such rows are never contexts and take 16 bytes, not 32.
    """

    def __init__(self, *, is_longest: bool) -> None:
        columns = find.COLUMNS_LONGEST if is_longest else find.COLUMNS
        self._rows = memory.GrowingRows(1 << FIRST_BITS, columns)
        self._bits = FIRST_BITS
        self._slots = memory.zeros(1 << FIRST_BITS)
        self._used = np.zeros(1, np.int64)

    def __len__(self) -> int:
        """Return the number of n-grams."""
        return int(self._used[0])

    @property
    def rows(self) -> NDArray[np.uint32]:
        """(capacity, columns) uint32, the columns of kernels/find.py; zero from row len() on."""
        return self._rows.array

    @property
    def slot_count(self) -> int:
        """Words of the index, a power of two."""
        return len(self._slots)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and the index, as allocated."""
        return self.rows.nbytes + self._slots.nbytes

    def reserve(self, n_more: int) -> None:
        """Make room for `n_more` further n-grams; MemoryError leaves the table as it was."""
        need = len(self) + n_more
        if need > len(self.rows):
            self._rows.grow(need)
        bits = self._bits
        while need > MAX_LOAD * (1 << bits):
            bits += 2 if bits < SMALL_BITS else 1
        if bits != self._bits:
            slots = memory.zeros(1 << bits)
            find.fill_slots(slots, bits, self.rows, len(self))
            self._slots, self._bits = slots, bits

    def restore(self, rows: NDArray[np.uint32]) -> None:
        """Take over the n-grams of a saved table, (N, columns) uint32, into this empty one."""
        self.reserve(len(rows))
        self.rows[: len(rows)] = rows
        self._used[0] = len(rows)
        find.fill_slots(self._slots, self._bits, self.rows, len(self))

    def add_root(self) -> None:
        """Make the one n-gram of no tokens, row 0; it has no prefix, so no key and no slot."""
        self._used[0] = 1

    def find(
        self, tokens: Tokens, contexts: Nodes, grams: Nodes, seen: Nodes, position: int, mode: int
    ) -> None:
        """Walk `tokens` as kernels/find.py says; unless mode is LOOK, `reserve` first."""
        find.find(
            tokens, contexts, grams, seen, self._slots, self._bits, self.rows, self._used,
            position, mode,
        )  # fmt: skip

    def lookup(self, prefixes: Nodes, tokens: Tokens) -> Nodes:
        """(N,) uint32: row of each key (prefix, token), NONE where it is not stored."""
        found = np.empty(len(tokens) + 1, np.uint32)
        self.find(tokens, prefixes, found, np.empty_like(found), 0, find.LOOK)
        return found[1:]

    def token_counts(self, prefixes: Nodes, tokens: Tokens) -> NDArray[np.uint32]:
        """(N,) uint32: count of each token after the context at each prefix, 0 if not stored."""
        found = self.lookup(prefixes, tokens)
        is_stored = found != find.NONE
        counts = np.zeros(len(tokens), np.uint32)
        counts[is_stored] = self.rows[found[is_stored], find.COUNT]
        return counts
