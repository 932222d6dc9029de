"""Arrays of uint32 in anonymous memory: costly where written only, grown and shrunk in place."""

import mmap
import platform
import sys

import numpy as np

PAGE = mmap.PAGESIZE  # as it is counted
HUGE_PAGE = 2 << 20
RESERVED = 16 << 30  # bytes of address space an array: 512 M n-grams of an order

# MAP_NORESERVE: address space that the system does not count as memory. Python names it from 3.13
# on; the number is that of Linux on these processors.
_KNOWN = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
NO_RESERVE: int | None = getattr(mmap, "MAP_NORESERVE", 0x4000 if _KNOWN else None)


def page_bytes(n_bytes: int, page: int) -> int:
    """Bytes of the pages that an array of `n_bytes` touches: huge ones if it fills two."""
    page = HUGE_PAGE if n_bytes >= 2 * HUGE_PAGE else page
    return -(-n_bytes // page) * page


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


class GrowingArray:
    """Rows of uint32; `array` (capacity, columns) is zero where nothing was written.

    Address space is reserved for many more, so growth copies nothing and holds nothing twice. Where
    the system reserves none, or the rows outgrow it, they are copied to a larger place.

    The rows begin on a huge page: random reads over gigabytes miss the TLB on every row with pages
    of 4 KiB. And no row of 32 bytes straddles two cache lines here; in an array from malloc, begun
    16 bytes into one, many do.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._row_bytes = 4 * columns
        self._columns = columns
        self._reserve(capacity)
        self._show(capacity)

    def __len__(self) -> int:
        """Return the capacity in rows."""
        return len(self.array)

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that the rows can touch."""
        return self.nbytes_of(len(self))

    def nbytes_of(self, capacity: int) -> int:
        """Bytes of the pages that `capacity` rows can touch."""
        return page_bytes(capacity * self._row_bytes, PAGE)

    def fits(self, capacity: int) -> bool:
        """Whether `grow` makes room for `capacity` rows where they are."""
        return capacity * self._columns <= len(self._space)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows; what was written stays. MemoryError changes nothing."""
        if capacity <= len(self):
            return
        if not self.fits(capacity):
            written = self.array
            self._reserve(2 * capacity)
            self._space[: written.size] = written.reshape(-1)
        self._show(capacity)

    def shrink(self, capacity: int, written: int, *, keeps_pages: bool = False) -> None:
        """Give up all rows from `capacity` on, of which those before `written` may hold something.

        Unless kept, their pages go back to the system.
        """
        begin, end = capacity * self._row_bytes, max(capacity, written) * self._row_bytes
        whole = end
        if not keeps_pages and sys.platform == "linux":  # there given pages come back as zeros
            whole = min(page_bytes(begin, mmap.PAGESIZE), page_bytes(end, mmap.PAGESIZE))
            self._advise(mmap.MADV_DONTNEED, whole, page_bytes(end, mmap.PAGESIZE))
        self._space[begin // 4 : min(whole, end) // 4] = 0
        self._show(capacity)

    def _reserve(self, capacity: int) -> None:
        n_bytes = capacity * self._row_bytes + HUGE_PAGE
        try:
            self._pages = map_pages(max(RESERVED, n_bytes), only_reserved=True)
        except MemoryError:
            self._pages = map_pages(n_bytes)
        space = np.frombuffer(self._pages, np.uint32)
        self._skipped = -space.ctypes.data % HUGE_PAGE
        self._space = space[self._skipped // 4 :]
        self._is_huge = False

    def _show(self, capacity: int) -> None:
        n = capacity * self._columns
        is_huge = 4 * n >= 2 * HUGE_PAGE
        if is_huge != self._is_huge and hasattr(mmap, "MADV_HUGEPAGE"):
            advice = mmap.MADV_HUGEPAGE if is_huge else mmap.MADV_NOHUGEPAGE
            self._advise(advice, 0, 4 * len(self._space))
            self._is_huge = is_huge
        self.array = self._space[:n].reshape(-1, self._columns)

    def _advise(self, advice: int, begin: int, end: int) -> None:
        """Tell the system about bytes [begin, end) of the rows, begun on a page."""
        length = min(end, 4 * len(self._space)) - begin
        if length > 0:
            self._pages.madvise(advice, self._skipped + begin, length)
