"""One file of compressed pieces: written whole or not at all, and read as it was or not at all.

Layout: ``NGXQUANT``, format version and number of pieces (u16 each), their lengths (u64 each), the
pieces as `compress` makes them, and the BLAKE2b-128 of all this; little-endian.
"""

import os
import struct
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path

from quant.io.compress import CompressedError, decompress, read_header

MAGIC = b"NGXQUANT"
VERSION = 1
START = struct.Struct("<8sHH")
DIGEST_BYTES = 16


def write(path: Path, pieces: Sequence[bytes]) -> int:
    """Bytes of the file that is written to `path`.

    It goes to a file beside it and reaches the disk before that takes the name: a reader, or a
    process killed at any moment, leaves the old file whole or the new one.
    """
    lengths = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))
    content = b"".join([START.pack(MAGIC, VERSION, len(pieces)), lengths, *pieces])
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content + _digest(content))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path.stat().st_size


def read(path: Path, max_bytes: int) -> bytes:
    """What the pieces hold, one after the other.

    Parameters
    ----------
    path : path
    max_bytes : int
        Most that the file, and what its pieces hold together, may take.

    Raises
    ------
    ValueError
        If it is too much, or the file is missing, of another kind or version, cut short, longer
        than it was, or altered by a bit.
    """
    if not path.is_file():
        raise ValueError(f"quantized tensors must be a file, got {path}; check the path")
    size = path.stat().st_size
    check_size(path, size, max_bytes)
    with path.open("rb") as file:
        content = file.read(size)  # no more, should it grow meanwhile
    if content[: len(MAGIC)] != MAGIC:
        raise ValueError(
            f"quantized tensors must begin with {MAGIC.decode()}, got {content[: len(MAGIC)]!r} in "
            f"{path}; is it a file that save wrote?"
        )
    if len(content) < START.size + DIGEST_BYTES:
        raise damaged(path, "it is cut short")
    _, version, n_pieces = START.unpack_from(content)
    if version != VERSION:
        raise ValueError(
            f"quantized tensors must be of version {VERSION}, got {version} in {path}; read them "
            "with the ngrammix that wrote them"
        )
    content, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if _digest(content) != digest:
        raise damaged(path, "its bytes are not those that were saved")
    begin = START.size + 8 * n_pieces
    if begin > len(content):
        raise damaged(path, "it is cut short")
    lengths = struct.unpack_from(f"<{n_pieces}Q", content, START.size)
    if begin + sum(lengths) != len(content):
        raise damaged(path, "its pieces are not as long as it")
    pieces = [content[i:j] for i, j in pairwise(accumulate(lengths, initial=begin))]
    try:
        sizes = [read_header(piece).size for piece in pieces]
        check_size(path, sum(sizes), max_bytes)
        return b"".join(map(decompress, pieces, sizes))
    except CompressedError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check_size(path: Path, n_bytes: int, max_bytes: int) -> None:
    """Raise ValueError if a file holds more bytes than it may."""
    if n_bytes > max_bytes:
        raise ValueError(
            f"quantized tensors must take at most {max_bytes} bytes, got {n_bytes} in {path}; "
            "raise max_bytes if you trust them"
        )


def damaged(path: Path, what: object) -> ValueError:
    """Error of a file whose content cannot be what was saved."""
    return ValueError(f"{path} is damaged: {what}; use another copy")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()
