"""Arrays of uint32 that begin on a page, cost memory only where written, and grow in place."""

import mmap

import numpy as np
from numpy.typing import NDArray

HUGE_PAGE = 2 << 20


def map_pages(n_bytes: int) -> mmap.mmap:
    """Anonymous private memory of `n_bytes` >= 1, all zero; no byte of it costs until touched."""
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            pages = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:  # Windows has private anonymous memory only
            pages = mmap.mmap(-1, n_bytes)
    except OSError as error:
        raise MemoryError(f"no {n_bytes:,} bytes of memory are left for the tables") from error
    prefer_huge_pages(pages)
    return pages


def prefer_huge_pages(pages: mmap.mmap) -> None:
    """With pages of 4 KiB, random reads over gigabytes miss the TLB on every row."""
    if len(pages) >= 2 * HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)


def zeros(n: int) -> NDArray[np.uint32]:
    """(n,) uint32, all zero, begun on a page."""
    return np.frombuffer(map_pages(4 * n), np.uint32)


class GrowingRows:
    """Rows of uint32; `array` (capacity, columns) is zero where nothing was written.

    A row of 32 bytes never straddles two cache lines here (an array from malloc begins 16 bytes
    into one). Linux remaps the pages as the rows grow, so growth copies nothing and holds nothing
    twice; other systems copy once.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._columns = columns
        self._pages = map_pages(4 * capacity * columns)
        self.array = self._view()

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows; what was written stays."""
        n_bytes = 4 * capacity * self._columns
        del self.array  # the pages may not move under an array that looks at them
        try:
            self._pages.resize(n_bytes)
            prefer_huge_pages(self._pages)
        except (SystemError, OSError, BufferError):  # no mremap, no room, or somebody else looks
            grown = map_pages(n_bytes)
            grown[: len(self._pages)] = self._pages[:]
            self._pages = grown
        finally:
            self.array = self._view()

    def _view(self) -> NDArray[np.uint32]:
        return np.frombuffer(self._pages, np.uint32).reshape(-1, self._columns)
