"""Raw text in pieces that a tokenizer encodes as it encodes the whole text."""

import re
from collections.abc import Iterable, Iterator
from functools import cache

# Bytes of a piece at most. Tokenizers are fastest at 16 KiB: 4.7 to 4.9 MB/s, against 4.2 at
# 256 KiB (sizes from 1 KiB to 256 KiB measured).
PIECE = 1 << 14
MAX_SPACE = 3  # bytes of the longest white space in UTF-8; a cut looks so far to either side

# The white space of Unicode in UTF-8, by length: a lookbehind must have a fixed length.
SPACE_2 = rb"\xc2[\x85\xa0]"
SPACE_3 = rb"(?:\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80)"
SPACE = rb"(?:\s|%b|%b)" % (SPACE_2, SPACE_3)


@cache
def rules(limit: int) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Patterns of the longest piece that ends with a single line break, or with a single space.

    White space of several characters is never cut, because the pre-tokenizers of byte-level BPE
    treat its last character differently; the one of o200k also joins "/" to a line break.
    """
    first = rb"(?s).{0,%d}\n" % (limit - 1), rb"(?s).{1,%d} " % limit
    ends = (
        rb"(?<!\s%b)(?<!%b%b)(?<!%b%b)" % (end, SPACE_2, end, SPACE_3, end)
        for end in (rb"\n", b" ")
    )
    after = rb"(?!/|%b)" % SPACE
    lines, words = (re.compile(a + b + after) for a, b in zip(first, ends, strict=True))
    return lines, words


def cut(raw: bytes, start: int = 0, limit: int = PIECE) -> int:
    """End of the piece of `raw` that begins at `start`, at most `limit` bytes later.

    The end of `raw` if it is near enough. Otherwise the first of these that exists: after the last
    single line break between two characters that are not white space; before the last such space;
    at the last character boundary of UTF-8; at `limit`.
    """
    if len(raw) - start <= limit:
        return len(raw)
    lines, words = rules(limit)
    if match := lines.match(raw, start):
        return match.end()
    if match := words.match(raw, start):
        return match.end() - 1
    for end in range(start + limit, max(start, start + limit - 4), -1):
        if raw[end] & 0xC0 != 0x80:
            return end
    return start + limit


def pieces(reads: Iterable[bytes], limit: int = PIECE) -> Iterator[bytes]:
    """Pieces of one document; the cuts depend on its bytes, not on how `reads` divides them.

    An empty document gives one empty piece.
    """
    rest, start = b"", 0
    for read in reads:
        rest += read
        while len(rest) - start >= limit + MAX_SPACE:  # later bytes cannot change this cut
            end = cut(rest, start, limit)
            yield rest[start:end]
            start = end
        first = max(0, start - MAX_SPACE)  # the next cut looks back so far
        rest, start = rest[first:], start - first
    is_first = True
    while is_first or start < len(rest):
        end = cut(rest, start, limit)
        yield rest[start:end]
        start, is_first = end, False
