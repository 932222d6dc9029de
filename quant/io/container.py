"""Compressed container: pieces of bytes, each by its best codec, under one checksum.

Layout, little-endian: ``NGXQUANT``, version (u16), number of pieces (u16); for each piece its codec
(u8), bytes of an item (u8; 1 if the bytes are not shuffled), raw and compressed size (u64 each);
the compressed pieces; BLAKE2b-128 of all bytes before it.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np

from quant.base.config import check_choice, check_int
from quant.base.screen import progress_bar
from quant.io.codecs import CODECS, Buffer, Codec, CodecError

MAGIC = b"NGXQUANT"
VERSION = 2
START = struct.Struct("<8sHH")
PIECE = struct.Struct("<BBQQ")
DIGEST_BYTES = 16
OVERHEAD = START.size + PIECE.size + DIGEST_BYTES  # bytes of a container beside its one payload
CODEC_NAMES = ("best", *CODECS)
CODEC_BY_NUMBER = {codec.number: codec for codec in CODECS.values()}


class CompressedError(ValueError):
    """Data that `compress` did not make, or that were altered."""


def compress(data: bytes, codec: str = "best", *, itemsize: int = 1) -> bytes:
    """Compress data into a container of one piece, the smallest that the codec can make.

    "best" tries all codecs that are installed. The slowest settings are among those tried: a
    second or more per megabyte.

    Parameters
    ----------
    data : bytes
    codec : "best", "none", "zstd", "brotli" or "lzma"
    itemsize : int in 1..255
        Bytes of a number, for an array of numbers. The order "first bytes of all numbers, second
        bytes of all numbers, ..." is tried too.

    Raises
    ------
    ValueError
        If the codec is unknown or not installed, or the data are not whole items.
    """
    return compress_pieces([(data, itemsize)], codec)


def compress_pieces(
    pieces: Iterable[tuple[bytes, int]], codec: str = "best", *, progress: bool = False
) -> bytes:
    """Compress (data, itemsize) pieces, as `compress` does each, into one container.

    progress: show a progress bar on stderr.
    """
    check_choice(codec, "codec", CODEC_NAMES)
    jobs = [(data, list_trials(data, codec, itemsize)) for data, itemsize in pieces]
    total = sum(len(data) * each.n_settings for data, trials in jobs for _, each in trials)
    with progress_bar(
        is_shown=progress, total=total, desc="compress", unit="B", unit_scale=True
    ) as bar:
        packed = [compress_piece(data, trials, bar.update) for data, trials in jobs]
    headers, payloads = zip(*packed, strict=True) if packed else ((), ())
    content = b"".join([START.pack(MAGIC, VERSION, len(headers)), *headers, *payloads])
    return content + digest(content)


def list_trials(data: bytes, codec: str, itemsize: int) -> list[tuple[int, Codec]]:
    """(bytes of an item to shuffle, codec) of all that is tried for a piece."""
    itemsize = check_int(itemsize, "itemsize", 1, 255)
    if len(data) % itemsize:
        raise ValueError(
            f"data must be whole items of {itemsize} bytes, got {len(data)} bytes; correct itemsize"
        )
    if codec == "best":
        codecs = [each for each in CODECS.values() if each.is_installed]
    else:
        codecs = [CODECS[codec]]
    if not data:
        codecs = [CODECS["none"]]
    return [(stride, each) for stride in sorted({1, itemsize}) for each in codecs]


def compress_piece(
    data: bytes, trials: Sequence[tuple[int, Codec]], tell: Callable[[int], object]
) -> tuple[bytes, bytes]:
    """(header, payload) of the smallest payload; `tell` gets the bytes that each one took."""

    def candidates() -> Iterator[tuple[int, int, bytes]]:
        for stride, codec in trials:
            for payload in codec.compress(shuffle(data, stride)):
                yield codec.number, stride, payload
                tell(len(data))

    number, stride, payload = min(candidates(), key=lambda candidate: len(candidate[2]))
    return PIECE.pack(number, stride, len(data), len(payload)), payload


def decompress(blob: bytes, max_bytes: int) -> bytes:
    """Data of all pieces of a container, joined.

    Parameters
    ----------
    blob : bytes
    max_bytes : int >= 0
        Most bytes of the data. A container of more is refused before they are allocated. Beside
        the blob, memory for twice the data is taken, and 144 MiB for the decoder.

    Raises
    ------
    CompressedError
        If the container is of another kind or version, cut short, longer than it was, or altered.
    ValueError
        If the data exceed `max_bytes`, or a codec is not installed.
    """
    if blob[: len(MAGIC)] != MAGIC:
        raise CompressedError(
            f"compressed data must begin with {MAGIC.decode()}, got {bytes(blob[: len(MAGIC)])!r}; "
            "pass what compress or save made"
        )
    if len(blob) < START.size + DIGEST_BYTES:
        raise damaged(f"{len(blob)} bytes, fewer than a header")
    _, version, n_pieces = START.unpack_from(blob)
    if version != VERSION:
        raise CompressedError(
            f"compressed data must be of version {VERSION}, got version {version}; read them with "
            "the ngrammix that wrote them, or quantize and save again"
        )
    content = memoryview(blob)[:-DIGEST_BYTES]  # slices of it are not copied
    if digest(content) != blob[-DIGEST_BYTES:]:
        raise damaged("another checksum")
    begin = START.size + PIECE.size * n_pieces
    if begin > len(content):
        raise damaged(f"{len(blob)} bytes, fewer than {n_pieces} headers of pieces")
    headers = [PIECE.unpack_from(content, i) for i in range(START.size, begin, PIECE.size)]
    ends = list(accumulate((packed for *_, packed in headers), initial=begin))
    if ends[-1] != len(content):
        raise damaged(f"{len(content)} bytes where its pieces need {ends[-1]}")
    total = sum(size for _, _, size, _ in headers)
    if total > max_bytes:
        raise ValueError(
            f"compressed data must hold at most {max_bytes} bytes, got {total}; raise max_bytes if "
            "you trust them"
        )
    return b"".join(
        decompress_piece(number, itemsize, size, content[i:j])
        for (number, itemsize, size, _), (i, j) in zip(headers, pairwise(ends), strict=True)
    )


def decompress_piece(number: int, itemsize: int, size: int, payload: Buffer) -> Buffer:
    """Data of one piece; CompressedError unless the payload decodes to `size` bytes."""
    if number not in CODEC_BY_NUMBER:
        raise damaged(f"codec {number}")
    if itemsize == 0 or size % itemsize:
        raise damaged(f"{size} bytes in items of {itemsize}")
    try:
        shuffled = CODEC_BY_NUMBER[number].decompress(payload, size)
    except CodecError as error:
        raise damaged(str(error)) from error
    if len(shuffled) != size:
        raise damaged(f"{len(shuffled)} bytes or more in a piece of {size}")
    return unshuffle(shuffled, itemsize)


def shuffle(data: bytes, itemsize: int) -> bytes:
    """First bytes of all items, then second bytes, and so on."""
    if itemsize == 1:
        return data
    return np.frombuffer(data, np.uint8).reshape(-1, itemsize).T.tobytes()


def unshuffle(data: Buffer, itemsize: int) -> Buffer:
    """Inverse of `shuffle`."""
    if itemsize == 1:
        return data
    return np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes()


def digest(content: Buffer) -> bytes:
    """BLAKE2b-128 of the content."""
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def damaged(what: str) -> CompressedError:
    """Error for a container that `compress` did not make; `what` says what is wrong."""
    return CompressedError(
        f"compressed data must be as compress made them, got {what}; use another copy"
    )
