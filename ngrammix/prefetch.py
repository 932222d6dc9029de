"""Prefetcher: the cache reads ahead in a thread of its own while the model computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from numpy.typing import ArrayLike

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import NotCopyable, check_integer


class Prefetcher(NotCopyable):
    """Iterator over ``(tokens, evidence)``, observed ahead of the loop in another thread.

    Evidence depends on the tokens alone, and the kernels hold no lock of Python's, so the cache's
    work disappears behind a forward pass. It is what ``cache.observe(tokens)`` gives piece by
    piece, to the bit. Until the loop has ended or `close` was called, the cache belongs to it.

    Parameters
    ----------
    cache : NgramCache
        Observes the pieces, one after the other.
    pieces : iterable of (T,) int
        The stream; taken from in the thread of the loop, at most `depth` pieces ahead of it.
    depth : int in 1..1024
        Pieces that may be ahead.

    Raises
    ------
    ValueError
        If `depth` is out of range. And in the loop, in its place, what `observe` raises: then
        nothing of that piece or any later one was learned, and the loop has ended.

    Examples
    --------
    >>> cache = NgramCache(order=2, vocab_size=4)
    >>> with Prefetcher(cache, [[0, 1, 0], [1, 0, 1]]) as ahead:
    ...     for tokens, evidence in ahead:
    ...         print(tokens, evidence.matched_order)
    [0, 1, 0] [0 1 1]
    [1, 0, 1] [2 2 2]
    """

    def __init__(self, cache: NgramCache, pieces: Iterable[ArrayLike], *, depth: int = 2) -> None:
        self._depth = check_integer(depth, "depth", 1, 1024)
        self._cache = cache
        self._pieces = iter(pieces)
        self._ahead: deque[tuple[ArrayLike, Future[Evidence]]] = deque()
        self._thread = ThreadPoolExecutor(1, "ngrammix-prefetch")
        self._end: Exception | None = None
        self._has_failed = False

    def __iter__(self) -> Iterator[tuple[ArrayLike, Evidence]]:
        return self

    def __next__(self) -> tuple[ArrayLike, Evidence]:
        """Return the next piece and its evidence; begin with the one `depth` pieces later."""
        try:
            while self._end is None and len(self._ahead) <= self._depth:
                tokens = next(self._pieces)
                self._ahead.append((tokens, self._thread.submit(self._observe, tokens)))
        except Exception as error:  # of the pieces: raised when all before it are done
            self._end = error
        if not self._ahead:
            self.close()
            end, self._end = self._end, StopIteration()
            raise end or StopIteration
        tokens, evidence = self._ahead.popleft()
        try:
            return tokens, evidence.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the loop: no further piece is begun, and the one under way is finished."""
        self._end = self._end or StopIteration()
        self._ahead.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _observe(self, tokens: ArrayLike) -> Evidence:
        if self._has_failed:  # an earlier piece was refused: the stream has a hole
            raise ValueError("an earlier piece was refused")
        try:
            return self._cache.observe(tokens)
        except BaseException:
            self._has_failed = True
            raise
