"""MemoryLimit: the bytes that a cache may take, and how many tokens it learns between checks."""

from ngrammix.cache.pipeline import ROWS_A_TOKEN
from ngrammix.cache.store import NgramStore
from ngrammix.checks import MAX_POSITION

MAX_BLOCK_SIZE = 1 << 16  # tokens between two checks of the limit
BLOCK_SHARE = 8  # one block may add at most 1 / BLOCK_SHARE of the limit


class MemoryLimit:
    """The bytes that tables and work buffers may take; checked before each block of tokens.

    Blocks begin at fixed positions of the stream, and space is reserved for a whole block. So when
    n-grams are evicted depends on the stream alone, not on how it is cut into calls.

    Parameters
    ----------
    store : NgramStore
        The tables and the stream, still empty.
    limit : int or None
        Bytes, or None for no limit.
    chunk_size : int
        Tokens that go through the tables at once, at most.
    bytes_a_token : int
        Bytes of the work buffers for each token of a chunk.

    Attributes
    ----------
    block_size : int
        Tokens between two checks, a power of two; without a limit, all tokens a cache can take.
    chunk_size : int
        Tokens of a chunk, at most; not above `block_size`.
    minimum : int
        The smallest limit for such tables, bytes.
    """

    def __init__(
        self, store: NgramStore, limit: int | None, chunk_size: int, bytes_a_token: int
    ) -> None:
        self.limit = limit

        def needed(block_size: int) -> int:
            buffers = (min(chunk_size, block_size) + 1) * bytes_a_token
            n_rows = ROWS_A_TOKEN * block_size + 2 * store.order  # and what one `update` adds
            return buffers + store.nbytes_with(block_size, n_rows)

        self.minimum = BLOCK_SHARE * needed(1)
        self.block_size = MAX_BLOCK_SIZE if limit is not None else MAX_POSITION
        while limit is not None and self.block_size > 1:
            if BLOCK_SHARE * needed(self.block_size) <= limit:
                break
            self.block_size //= 2
        self.chunk_size = min(chunk_size, self.block_size)
        self._buffer_bytes = (self.chunk_size + 1) * bytes_a_token

    def nbytes_with(self, store: NgramStore, n_tokens: int, n_rows: int) -> int:
        """Bytes of everything with `n_tokens` more tokens, and `n_rows` more n-grams an order."""
        return self._buffer_bytes + store.nbytes_with(n_tokens, n_rows)

    def has_room(self, store: NgramStore, n_tokens: int, n_rows: int) -> bool:
        """Whether so many more tokens, and n-grams of each order, fit within the limit."""
        return self.limit is None or self.nbytes_with(store, n_tokens, n_rows) <= self.limit
