"""Arrays of uint32 in anonymous memory: costly where written only, and grown in place."""

import mmap
import platform
import sys

import numpy as np
from numpy.typing import NDArray

HUGE_PAGE = 2 << 20
RESERVED = 16 << 30  # bytes of address space for rows: 512 M n-grams of an order

# MAP_NORESERVE: address space that the system does not count as memory. Python names it from 3.13
# on; the number is that of Linux on these processors.
_KNOWN = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
NO_RESERVE: int | None = getattr(mmap, "MAP_NORESERVE", 0x4000 if _KNOWN else None)


def map_pages(n_bytes: int, *, only_reserved: bool = False) -> mmap.mmap:
    """Anonymous private memory of `n_bytes` >= 1, all zero; no byte of it costs until touched.

    `only_reserved` asks for address space that may never be used. MemoryError where the system
    grants none.
    """
    try:
        if only_reserved and NO_RESERVE is None:
            raise OSError("address space counts as memory here")
        if not hasattr(mmap, "MAP_PRIVATE"):  # Windows has private anonymous memory only
            return mmap.mmap(-1, n_bytes)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        if only_reserved and NO_RESERVE is not None:
            flags |= NO_RESERVE
        return mmap.mmap(-1, n_bytes, flags=flags)
    except OSError as error:
        raise MemoryError(f"no {n_bytes:,} bytes of memory are left for the tables") from error


def aligned(pages: mmap.mmap) -> NDArray[np.uint32]:
    """All of `pages` from the first huge page on, if they hold two, else all: (n,) uint32.

    Random reads over gigabytes miss the TLB on every row with pages of 4 KiB. And no row of 32
    bytes straddles two cache lines here; in an array from malloc, begun 16 bytes into one, many do.
    """
    array = np.frombuffer(pages, np.uint32)
    if len(pages) < 2 * HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return array
    return array[-array.ctypes.data % HUGE_PAGE // 4 :]


def prefer_huge_pages(pages: mmap.mmap, n_bytes: int) -> None:
    """Ask for huge pages under the first `n_bytes`, where that many fill some."""
    if n_bytes >= 2 * HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE, 0, min(len(pages), n_bytes + HUGE_PAGE))


def zeros(n: int) -> NDArray[np.uint32]:
    """(n,) uint32, all zero, begun on a page, a huge one if it fills some."""
    n_bytes = 4 * n
    pages = map_pages(n_bytes + HUGE_PAGE if n_bytes >= 2 * HUGE_PAGE else n_bytes)
    prefer_huge_pages(pages, n_bytes)
    return aligned(pages)[:n]


class GrowingRows:
    """Rows of uint32; `array` (capacity, columns) is zero where nothing was written.

    Address space is reserved for many more, so growth copies nothing and holds nothing twice. Where
    the system reserves none, or the rows outgrow it, they are copied to a larger place.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._columns = columns
        self._reserve(capacity)
        self._show(capacity)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows; what was written stays."""
        if capacity * self._columns > len(self._space):
            written = self.array
            self._reserve(2 * capacity)
            self._space[: written.size] = written.reshape(-1)
        self._show(capacity)

    def _reserve(self, capacity: int) -> None:
        n_bytes = 4 * capacity * self._columns + HUGE_PAGE
        try:
            self._pages = map_pages(max(RESERVED, n_bytes), only_reserved=True)
        except MemoryError:
            self._pages = map_pages(n_bytes)
        self._space = aligned(self._pages)

    def _show(self, capacity: int) -> None:
        n = capacity * self._columns
        prefer_huge_pages(self._pages, 4 * n)
        self.array = self._space[:n].reshape(-1, self._columns)
