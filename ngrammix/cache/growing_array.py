"""Arrays of uint32 in anonymous memory: only written pages cost memory; resized in place."""

import mmap
import platform
import sys

import numpy as np

PAGE = mmap.PAGESIZE  # bytes, for counting memory
HUGE_PAGE = 2 << 20  # bytes
RESERVED = 16 << 30  # bytes of address space an array: 512 M n-grams of one order

# MAP_NORESERVE: address space that the system does not count as memory. Python names the flag from
# 3.13 on; the number is the one of Linux on these processors.
_HAS_FLAG = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
NO_RESERVE: int | None = getattr(mmap, "MAP_NORESERVE", 0x4000 if _HAS_FLAG else None)


def page_bytes(n_bytes: int, page: int) -> int:
    """Bytes of the pages that an array of `n_bytes` touches: huge pages from two of them on."""
    page = HUGE_PAGE if n_bytes >= 2 * HUGE_PAGE else page
    return -(-n_bytes // page) * page


def map_pages(n_bytes: int, *, only_reserved: bool = False) -> mmap.mmap:
    """Anonymous private memory of `n_bytes` >= 1, all zero; a page costs memory once written.

    `only_reserved` asks for address space that may never be used. Raises MemoryError if the system
    refuses.
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

    More address space is reserved than is used, so the array grows without a copy. Where the system
    reserves none, or the rows outgrow it, they are copied to a larger array.

    The rows are aligned to a huge page. With pages of 4 KiB, random reads over gigabytes miss the
    TLB on every row; and a row of 32 bytes never straddles two cache lines, as many rows of an
    array from malloc do.
    """

    def __init__(self, capacity: int, columns: int) -> None:
        self._row_bytes = 4 * columns
        self._columns = columns
        self._reserve(capacity)
        self._set_capacity(capacity)

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
        """Whether the array can grow to `capacity` rows without a copy."""
        return capacity * self._columns <= len(self._space)

    def grow(self, capacity: int) -> None:
        """Raise the capacity; rows stay as they are. After a MemoryError nothing has changed."""
        if capacity <= len(self):
            return
        if not self.fits(capacity):
            written = self.array
            self._reserve(2 * capacity)
            self._space[: written.size] = written.reshape(-1)
        self._set_capacity(capacity)

    def shrink(self, capacity: int, written: int, *, keeps_pages: bool = False) -> None:
        """Lower the capacity and zero the rows behind it, of which the first `written` are used.

        Their pages go back to the system, unless `keeps_pages`.
        """
        begin, end = capacity * self._row_bytes, max(capacity, written) * self._row_bytes
        zeroed_from = end
        if not keeps_pages and sys.platform == "linux":  # where such pages come back as zeros
            zeroed_from = min(page_bytes(begin, mmap.PAGESIZE), page_bytes(end, mmap.PAGESIZE))
            self._advise(mmap.MADV_DONTNEED, zeroed_from, page_bytes(end, mmap.PAGESIZE))
        self._space[begin // 4 : min(zeroed_from, end) // 4] = 0
        self._set_capacity(capacity)

    def _reserve(self, capacity: int) -> None:
        n_bytes = capacity * self._row_bytes + HUGE_PAGE
        try:
            self._pages = map_pages(max(RESERVED, n_bytes), only_reserved=True)
        except MemoryError:
            self._pages = map_pages(n_bytes)
        space = np.frombuffer(self._pages, np.uint32)
        self._skipped_bytes = -space.ctypes.data % HUGE_PAGE
        self._space = space[self._skipped_bytes // 4 :]
        self._is_huge = False

    def _set_capacity(self, capacity: int) -> None:
        n = capacity * self._columns
        is_huge = 4 * n >= 2 * HUGE_PAGE
        if is_huge != self._is_huge and hasattr(mmap, "MADV_HUGEPAGE"):
            advice = mmap.MADV_HUGEPAGE if is_huge else mmap.MADV_NOHUGEPAGE
            self._advise(advice, 0, 4 * len(self._space))
            self._is_huge = is_huge
        self.array = self._space[:n].reshape(-1, self._columns)

    def _advise(self, advice: int, begin: int, end: int) -> None:
        """Give the system advice on bytes [begin, end) of the rows; begin is on a page."""
        length = min(end, 4 * len(self._space)) - begin
        if length > 0:
            self._pages.madvise(advice, self._skipped_bytes + begin, length)
