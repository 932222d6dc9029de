"""Frames: the replies of the process that decodes tables."""

import struct
from collections.abc import Iterable, Iterator

from eval.data.arrow_columns import Cell

FRAME = struct.Struct("<cqqq")  # kind, offset in the file, number of cells, bytes that follow
# The text of an ERROR is for the user; without a text the file is damaged.
OPENED, CELLS, ERROR, OUT_OF_MEMORY, END = b"o", b"c", b"e", b"m", b"."
GO = b"go\n"  # the request for the cells of the file that was opened
MAX_CELLS, MAX_BYTES = 64, 1 << 20  # of a frame, but that its last cell may be longer


def pack(rows: Iterable[tuple[Cell, int]]) -> Iterator[bytes]:
    """Frames of CELLS: their sizes as int64, then their bytes.

    The size of null is -1. A cell of which the size alone is known has no bytes; it is negative.
    """
    sizes: list[int] = []
    parts: list[bytes] = []
    n_bytes = offset = 0

    def frame() -> bytes:
        head = struct.pack(f"<{len(sizes)}q", *sizes)
        size = len(head) + n_bytes
        return b"".join([FRAME.pack(CELLS, offset, len(sizes), size), head, *parts])

    for cell, offset in rows:  # noqa: B007  used by `frame`
        if isinstance(cell, bytes):
            sizes.append(len(cell))
            parts.append(cell)
            n_bytes += len(cell)
        else:
            sizes.append(-1 if cell is None else -cell)
        if len(sizes) == MAX_CELLS or n_bytes >= MAX_BYTES:
            yield frame()
            sizes, parts, n_bytes = [], [], 0
    if sizes:
        yield frame()


def unpack(content: bytes, n_cells: int) -> Iterator[Cell]:
    """The cells of a frame."""
    start = 8 * n_cells
    for size in struct.unpack_from(f"<{n_cells}q", content):
        if size < 0:
            yield None if size == -1 else -size
        else:
            yield content[start : start + size]
            start += size
