"""Budget: the bytes that a cache may take, and when it must forget to stay within them."""

from collections.abc import Sequence

from ngrammix.cache.table import Table
from ngrammix.checks import MAX_POSITION

LARGEST_BLOCK = 1 << 16  # tokens between two looks at the budget
SHARE = 8  # of the limit, that one block may take


class Budget:
    """Bytes that the tables and what goes with them may take, looked at before each block.

    Blocks lie at fixed places of the stream, and room is made for a whole one. So when something is
    forgotten depends on the stream alone, not on the calls that it came in.

    Parameters
    ----------
    tables : sequence of Table
        Empty ones.
    limit : int or None
        Bytes never to be exceeded, or no limit.
    chunk : int
        Most tokens at a time on their way through the tables.
    chunk_bytes : int
        What the buffers take for each of them.

    Attributes
    ----------
    block : int
        Tokens between two looks, a power of two; all that a cache can number without a limit.
    least : int
        The smallest limit there can be for such tables.
    """

    def __init__(
        self, tables: Sequence[Table], limit: int | None, chunk: int, chunk_bytes: int
    ) -> None:
        self.limit = limit

        def need(block: int) -> int:
            buffers = (min(chunk, block) + 1) * chunk_bytes
            n_rows = block + len(tables)  # an n-gram beside the stream takes one a length
            return buffers + sum(table.nbytes_with(n_rows) for table in tables)

        self.least = SHARE * need(1)
        self.block = LARGEST_BLOCK if limit is not None else MAX_POSITION
        while limit is not None and self.block > 1 and SHARE * need(self.block) > limit:
            self.block //= 2
        self.chunk = min(chunk, self.block)
        self._buffers = (self.chunk + 1) * chunk_bytes

    def nbytes_with(self, tables: Sequence[Table], n_more: int) -> int:
        """Bytes of everything with room for `n_more` n-grams of each order."""
        return self._buffers + sum(table.nbytes_with(n_more) for table in tables)

    def has_room(self, tables: Sequence[Table], n_more: int) -> bool:
        """Whether `n_more` n-grams of each order can be added within the limit."""
        return self.limit is None or self.nbytes_with(tables, n_more) <= self.limit
