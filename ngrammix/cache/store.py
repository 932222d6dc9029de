"""NgramStore: the n-grams of a stream, its tokens, and where the stream stands."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.table import UNITS_A_ROW, Table
from ngrammix.cache.token_stream import TokenStream
from ngrammix.kernels import index, lookup
from ngrammix.types import Counts, Nodes, StateDict, Tokens

SIZES = slice(index.N_UNITS, index.N_ROWS + 1)  # those that a table can take no more of


class Columns(NamedTuple):
    """The arrays of all tables, of 0, 1, ..., order tokens, as the kernels take them."""

    slots: tuple[Nodes, ...]
    rows: tuple[Nodes, ...]
    sizes: NDArray[np.int64]


class NgramStore:
    """A table for each length of n-grams, and the tokens that the n-grams seen once point into.

    Parameters
    ----------
    order : int

    Attributes
    ----------
    tables : list of Table
        The n-grams of 0, 1, ..., order tokens that have a row.
    sizes : (order + 1, 4) int64
        How many they are: the columns of kernels/index.py.
    columns : Columns
        The arrays of the tables, which move when they grow.
    stream : TokenStream
    counts_of_counts : (order, 2) int64
        How many n-grams of each order are counted once, and twice; those without a row too.
    ends : (order + 1,) uint64
        Row of the last k tokens of the stream, for k up to `n_open`, and from bit 32 on the time
        just after their earlier occurrence, 0 if there is none.
    n_open : (1,) int64
        Length of the longest n-gram that ends the stream and is open.
    n_updates : (1,) int64
        Number of tokens counted beside the stream.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.sizes = np.empty((order + 1, len(index.EMPTY)), np.int64)
        self.tables = [Table(sizes, is_longest=k == order) for k, sizes in enumerate(self.sizes)]
        self.tables[0].add_root()
        self.refresh()
        self.stream = TokenStream()
        self.counts_of_counts = np.zeros((order, 2), np.int64)
        self.ends = np.zeros(order + 1, np.uint64)
        self.n_open, self.n_updates = np.zeros((2, 1), np.int64)

    def __len__(self) -> int:
        """Return the number of n-grams that have a row."""
        return sum(map(len, self.tables[1:]))

    def refresh(self) -> None:
        """Take the arrays of the tables anew, after one was grown, filled or cut."""
        tables = self.tables
        slots = tuple(table.slots for table in tables)
        self.columns = Columns(slots, tuple(table.rows for table in tables), self.sizes)
        self._max_sizes = np.array([table.max_sizes for table in tables])

    @property
    def content_bytes(self) -> int:
        """Bytes of the rows and of the tokens that are kept."""
        rows = sum(table.content_bytes for table in self.tables[1:])
        return rows + self.stream.words.nbytes

    def nbytes_with(self, n_tokens: int, n_rows: int) -> int:
        """Bytes with `n_tokens` more tokens, and `n_rows` more n-grams of each length."""
        stream = self.stream.nbytes_with(n_tokens)
        return stream + sum(table.nbytes_with(n_rows) for table in self.tables)

    def reserve(self, n_tokens: int, n_rows: int) -> None:
        """Make room for more tokens, and more n-grams of each length.

        After a MemoryError the content is what it was.
        """
        self.stream.reserve(n_tokens)
        self.reserve_rows(range(1, self.order + 1), n_rows)

    def reserve_rows(self, lengths: range, n_rows: int) -> None:
        """Make room for `n_rows` more n-grams of each of these lengths."""
        part, more = slice(lengths.start, lengths.stop), (UNITS_A_ROW * n_rows, n_rows)
        if (self.sizes[part, SIZES] + more > self._max_sizes[part]).any():
            try:
                for table in self.tables[part]:
                    table.reserve(n_rows)
            finally:
                self.refresh()

    def grows_in_place(self, n_tokens: int, n_rows: int) -> bool:
        """Whether ``reserve(n_tokens, n_rows)`` leaves the tokens and the rows at their address."""
        return self.stream.grows_in_place(n_tokens) and all(
            table.grows_in_place(n_rows) for table in self.tables[1:]
        )

    def clear(self, *, keeps_pages: bool) -> None:
        """Forget everything; the memory goes back to the system, unless `keeps_pages`."""
        for table in self.tables:
            table.clear(keeps_pages=keeps_pages)
        self.tables[0].add_root()
        self.stream.clear(keeps_pages=keeps_pages)
        for array in (self.counts_of_counts, self.ends, self.n_open, self.n_updates):
            array[:] = 0
        self.refresh()

    def boundary(self) -> None:
        """Begin a new document: contexts do not reach back over this point."""
        self.stream.boundary()
        self.n_open[0] = 0

    def update(self, tokens: Tokens) -> None:
        """Count the last of tokens (C,), C <= order, after those before it, apart from the stream.

        There must be room for 2 C more n-grams of each length.
        """
        stream = self.stream
        now = stream.stop + index.BEFORE_FIRST
        lookup.update(stream.array, stream.base, tokens, now, *self.columns, self.counts_of_counts)
        self.n_updates += 1
        self.open_ends()

    def open_ends(self) -> None:
        """Find the open n-grams that end the stream anew, after others than the stream opened some.

        What was open before stays so, with the time of its earlier occurrence.
        """
        n_before = int(self.n_open[0])
        nodes, _ = self._suffixes(self.stream.context(self.order - 1))
        if len(nodes) - 1 > n_before:
            self.ends[n_before + 1 : len(nodes)] = nodes[n_before + 1 :]
            self.n_open[0] = len(nodes) - 1

    def context_totals(self, context: Tokens) -> tuple[list[int], list[int]]:
        """Followers, and distinct followers, of the last 0, 1, ... tokens of a context (C,).

        Two lists of K <= C + 1 counts: of the contexts that occurred.
        """
        nodes, after = self._suffixes(context)
        rows = [table.rows[row + 1] for table, row in zip(self.tables, nodes, strict=False)]
        followers = [int(row[index.FOLLOWERS]) for row in rows]
        distinct = [int(row[index.DISTINCT]) for row in rows]
        if after > 0:  # longer contexts ended there once, and have its one follower, if any
            words = self.stream.array
            n_matched = lookup.matched_length(words, after, context, len(nodes))
            is_followed = int(words[after]) & index.START == 0
            for totals in (followers, distinct):
                totals += [int(is_followed)] * (n_matched + 1 - len(nodes))
        return followers, distinct

    def follower_counts(self, context: Tokens, candidates: Tokens) -> Counts:
        """(C + 1, N) uint32: count of each candidate (N,) after the last 0, 1, ..., C tokens."""
        counts = np.zeros((len(context) + 1, len(candidates)), np.uint32)
        tokens = np.append(context, 0)
        slots, rows, _ = self.columns
        stream = self.stream
        lookup.follower_counts(stream.array, stream.base, tokens, candidates, slots, rows, counts)
        return counts

    def _suffixes(self, tokens: Tokens) -> tuple[NDArray[np.int64], int]:
        """Rows of the last 0, 1, ... tokens (C,) that are open; where the next longer one ended."""
        nodes = np.zeros(len(tokens) + 1, np.int64)
        slots, rows, _ = self.columns
        n, after = lookup.find_suffixes(self.stream.base, tokens, slots, rows, nodes)
        return nodes[: n + 1], after

    def state_dict(self) -> StateDict:
        """Arrays that the next counts depend on, by name; still in use."""
        ends = np.array([self.ends & np.uint64(index.NONE), self.ends >> np.uint64(32)], np.uint32)
        ends[:, self.n_open[0] + 1 :] = 0
        arrays: StateDict = {
            "stream": self.stream.words,
            "context": np.array([self.stream.n_context], np.int64),
            "ends": ends,
            "open": self.n_open,
            "updates": self.n_updates,
            "counts of counts": self.counts_of_counts,
            "bits": np.array([table.bits for table in self.tables], np.uint32),
            "free": self.sizes[:, index.FREE].astype(np.uint32),
        }
        rows = {f"rows {k}": table.rows[: table.n_units] for k, table in enumerate(self.tables)}
        return arrays | rows

    def load_state_dict(self, state: StateDict, *, position: int) -> None:
        """Continue at `position` from a state with valid addresses; its rows are taken out."""
        self.stream.load(state.pop("stream"), position, int(state["context"][0]))
        nodes, last_seen = state["ends"].astype(np.uint64)
        self.ends[:], self.n_open[:] = last_seen << np.uint64(32) | nodes, state["open"]
        self.n_updates[:], self.counts_of_counts[:] = state["updates"], state["counts of counts"]
        for k, table in enumerate(self.tables[1:], start=1):
            rows, bits, free = state.pop(f"rows {k}"), state["bits"][k], state["free"][k]
            table.load_rows(rows, int(bits), int(free))
        self.tables[0].rows[:2] = state["rows 0"]
        self.refresh()
