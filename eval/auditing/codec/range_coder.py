"""A range coder for tokens, driven by any distribution over the vocabulary.

A token is coded as two decisions: its bucket, then its place in the bucket. There are about sqrt(V)
buckets of about sqrt(V) consecutive tokens. Each decision has a table of integers of 24 bits, so a
token's probability is a multiple of 2^-48, and the floor under every token costs nearly nothing at
any V: in one table of 24 bits it would take 1/128 of the mass at V = 131,072.

The integers are made here, by running sums, quotients and `floor`, which give the same bits on
every machine. The library gets each integer less 1 as a float: its own tables, which add 1 to each
entry and scale the rest, are then the same ones, as every float in them is a whole number.
"""

from functools import cache
from math import isqrt, log2
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np

from eval.types import Floats, Integers

PRECISION = 24  # bits of a table
TOTAL = 1 << PRECISION
WORD = 32  # bits of a word of the code
WINDOW = 64  # bits of the state of the coder: its code ends somewhere in such a window
# Upper bound of what rounding adds, in bits a token: the coder about 0.00015 for each of the two
# decisions, as its smallest range is 2^32, and the tables 0.00006 at V = 131,072.
ROUNDING = 1 / 2000
ENDING = 64  # bits by which the end of the code may lie after, or before, that of the information


def integer_weights(running: Floats) -> Integers:
    """A table (n,) of integers >= 1 of sum 2^24, in proportion to the steps of a running sum (n,).

    A share x of the sum becomes at least x (2^24 - n), however small it is: it costs at most
    log2(1 / (1 - n / 2^24)) bits more than log2(1 / x). Where all steps are 0, they count as equal.
    """
    n = len(running)
    shares = running / running[-1] if running[-1] > 0 else np.arange(1, n + 1) / n
    return np.diff(np.floor(shares * (TOTAL - n)), prepend=0).astype(np.int64) + 1


def bucket_size(vocab_size: int) -> int:
    """Tokens of a bucket: the root of V, rounded up."""
    return isqrt(vocab_size - 1) + 1


def bucket_table(probabilities: Floats) -> Integers:
    """The table of the buckets of a distribution (V,)."""
    size, running = bucket_size(len(probabilities)), np.cumsum(probabilities)
    return integer_weights(np.append(running[size - 1 : -1 : size], running[-1]))


def token_table(probabilities: Floats, bucket: int) -> Integers:
    """The table of the tokens of one bucket of a distribution (V,)."""
    size = bucket_size(len(probabilities))
    return integer_weights(np.cumsum(probabilities[bucket * size : (bucket + 1) * size]))


class NotCodedError(ValueError):
    """Raised for a code that no tokens have under the distributions of the decoder."""


class TokenEncoder:
    """Codes tokens, each under a distribution of its own."""

    def __init__(self) -> None:
        self._coder = library().queue.RangeEncoder()

    def put(self, token: int, probabilities: Floats) -> int:
        """Code a token in [0, V); returns a checksum of the tables that it was coded by.

        Parameters
        ----------
        token : int
            The token.
        probabilities : (V,) float64
            Finite numbers >= 0. Their sum need not be 1: only their proportions count.
        """
        bucket, place = divmod(token, bucket_size(len(probabilities)))
        buckets, tokens = bucket_table(probabilities), token_table(probabilities, bucket)
        for index, table in ((bucket, buckets), (place, tokens)):
            if len(table) > 1:
                self._coder.encode(index, model_of(table))
        return checksum(buckets, tokens)

    def code(self) -> bytes:
        """The code of the tokens so far: bytes, big-endian; the decoder reads zeros after them."""
        words = self._coder.get_compressed()
        n_done, (low, width) = self._coder.pos()
        whole: bytes = words.astype(">u4").tobytes()
        n_bytes = n_done * WORD // 8
        tail = int.from_bytes(whole[n_bytes:].ljust(WINDOW // 8, b"\0"), "big")
        if low <= tail < low + width:  # else the carry into the words before is part of the code
            whole = whole[:n_bytes] + shortest(low, min(low + width, 1 << WINDOW))
        return whole


class TokenDecoder:
    """Decodes what a `TokenEncoder` has coded, under the same distributions."""

    def __init__(self, code: bytes) -> None:
        words = np.frombuffer(code + bytes(-len(code) % (WORD // 8)), ">u4")
        self._coder = library().queue.RangeDecoder(words.astype(np.uint32))
        self._bits_left = 8.0 * len(code) + ENDING  # the code of more information is longer

    def get(self, probabilities: Floats) -> tuple[int, int]:
        """The next token under a distribution (V,), and the checksum of the tables.

        Raises
        ------
        NotCodedError
            If no token is coded like this: none fits, or only one of the probability 0; or the code
            has ended.
        """
        buckets = bucket_table(probabilities)
        bucket = self._decide(buckets)
        tokens = token_table(probabilities, bucket)
        token = bucket * bucket_size(len(probabilities)) + self._decide(tokens)
        if probabilities[token] == 0:
            raise NotCodedError(f"token {token} has the probability 0")
        return token, checksum(buckets, tokens)

    def _decide(self, table: Integers) -> int:
        """The next decision by a table."""
        if len(table) == 1:
            return 0
        try:
            index = int(self._coder.decode(model_of(table)))
        except AssertionError as error:  # of the library, for a code that no encoder writes
            raise NotCodedError("no entry of the table is coded") from error
        self._bits_left -= PRECISION - log2(table[index])
        if self._bits_left < 0:
            raise NotCodedError("the code ends before the token")
        return index


def shortest(low: int, end: int) -> bytes:
    """The shortest bytes that begin a number of 64 bits in low..end - 1, zeros after them."""
    for n_bytes in range(WINDOW // 8):
        unit = 1 << (WINDOW - 8 * n_bytes)
        number = -(-low // unit)
        if number * unit < end:
            return number.to_bytes(n_bytes, "big")
    return low.to_bytes(WINDOW // 8, "big")


def checksum(buckets: Integers, tokens: Integers) -> int:
    """A number of 32 bits that tells tables apart."""
    return crc32(tokens.tobytes(), crc32(buckets.tobytes()))


def model_of(table: Integers) -> Any:
    """A table as the library takes it; see the top of this file."""
    return library().model.Categorical((table - 1).astype(np.float64), perfect=False)


@cache
def library() -> ModuleType:
    """The coders and tables of constriction; ValueError if it is missing."""
    try:
        import constriction
    except ImportError as error:
        raise ValueError(
            "a round trip needs the library constriction, which is missing; "
            "pip install 'ngrammix[codec]'"
        ) from error
    stream: ModuleType = constriction.stream
    return stream
