"""TokenStream: the tokens of a stream as far as they are kept, with the boundaries marked."""

import numpy as np

from ngrammix.cache.growing_array import GrowingArray
from ngrammix.kernels.index import BEFORE_FIRST, START, TOKEN
from ngrammix.types import Nodes, Tokens

_MIN_CAPACITY = 1 << 10  # tokens
_PIECE = 1 << 16  # tokens moved at a time


class TokenStream:
    """Tokens from position `first` on; 4 bytes each.

    Times are positions plus BEFORE_FIRST: the token at time t is ``array[t - base]``, and the token
    at `first` has BEFORE_FIRST words before it. The word after the last token has the flag START,
    as has the first token of a document: what stands there follows nothing.

    Attributes
    ----------
    first : int
        Position of the first token that is kept.
    stop : int
        Position after the last token.
    n_context : int
        Number of tokens since the last boundary that are kept.
    """

    def __init__(self) -> None:
        self._words = GrowingArray(_MIN_CAPACITY, 1)
        self._reset()

    def _reset(self) -> None:
        self.first = self.stop = self.n_context = 0
        self.array[BEFORE_FIRST] = START

    @property
    def array(self) -> Nodes:
        """(capacity,) uint32: the words."""
        return self._words.array.reshape(-1)

    @property
    def base(self) -> int:
        """Time of ``array[0]``."""
        return self.first

    def index(self, position: int) -> int:
        """Index in `array` of the token at a position."""
        return position - self.first + BEFORE_FIRST

    @property
    def words(self) -> Nodes:
        """(N,) uint32: the tokens that are kept, with the flag START where a document begins."""
        return self.array[BEFORE_FIRST : self.index(self.stop)]

    def nbytes_with(self, n_more: int) -> int:
        """Bytes of the tokens with `n_more` more, in whole pages."""
        return self._words.nbytes_of(self.index(self.stop) + n_more + 1)

    def reserve(self, n_more: int) -> None:
        """Make room for `n_more` more tokens; after a MemoryError nothing has changed."""
        needed = self.index(self.stop) + n_more + 1
        if needed > len(self._words):
            self._words.grow(max(needed, 2 * len(self._words)))

    def grows_in_place(self, n_more: int) -> bool:
        """Whether ``reserve(n_more)`` leaves the words at their address."""
        return self._words.fits(2 * (self.index(self.stop) + n_more + 1))

    def append(self, tokens: Tokens) -> None:
        """Append tokens (T,), T >= 1, for which there is room."""
        begin, end = self.index(self.stop), self.index(self.stop + len(tokens))
        self.array[begin:end] = tokens
        if self.n_context == 0:
            self.array[begin] |= np.uint32(START)
        self.array[end] = START
        self.stop += len(tokens)
        self.n_context += len(tokens)

    def boundary(self) -> None:
        """Begin a new document."""
        self.n_context = 0

    def context(self, n_tokens: int) -> Tokens:
        """The last `n_tokens` tokens, or as many as follow the boundary: (C,) int64."""
        n_tokens = min(n_tokens, self.n_context)
        end = self.index(self.stop)
        return (self.array[end - n_tokens : end] & np.uint32(TOKEN)).astype(np.int64)

    def cut(self, first: int) -> None:
        """Forget the tokens before position `first`; a document begins there."""
        begin, end = self.index(first), self.index(self.stop) + 1
        self.array[begin] |= np.uint32(START)
        n_words = BEFORE_FIRST + end - begin
        for start in range(begin, end, _PIECE):  # numpy copies a piece that overlaps itself
            stop = min(start + _PIECE, end)
            self.array[start - begin + BEFORE_FIRST : stop - begin + BEFORE_FIRST] = self.array[
                start:stop
            ]
        self.first = first
        self.n_context = min(self.n_context, self.stop - first)
        self._words.shrink(max(_MIN_CAPACITY, n_words), end)

    def load(self, words: Nodes, stop: int, n_context: int) -> None:
        """Continue a saved stream: its `words`, the position after them, and `n_context`."""
        self._words.grow(BEFORE_FIRST + len(words) + 1)
        self.first, self.stop, self.n_context = stop - len(words), stop, n_context
        self.array[BEFORE_FIRST : BEFORE_FIRST + len(words)] = words
        self.array[BEFORE_FIRST + len(words)] = START

    def clear(self, *, keeps_pages: bool) -> None:
        """Forget all tokens; their memory goes back to the system, unless `keeps_pages`."""
        self._words.shrink(_MIN_CAPACITY, len(self._words), keeps_pages=keeps_pages)
        self.array[:] = 0
        self._reset()
