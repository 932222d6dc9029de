"""The longest earlier match of the last tokens: written down, then the token is learned."""

import numpy as np

from ngrammix.kernels.find import PREFETCH_DISTANCE
from ngrammix.kernels.jit import jit, prefetch

# Columns of what is written.
LENGTH, HINT, DISTANCE = range(3)
N_FIELDS = 3

# The state between calls.
POINTER, MATCHED, SINCE = range(3)
N_STATE = 3

LONG = 32  # tokens: so long a match is followed without a look for a longer one
MOST_COMPARED = 1024  # tokens compared when a match begins; from there its length grows freely

# Odd multipliers: of a linear congruential generator (Knuth, MMIX), and of MurmurHash3's finalizer.
_RADIX = np.uint64(6364136223846793005)
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)
_ONE, _HALF, _WORD = np.uint64(1), np.uint64(32), np.uint64(64)


@jit
def hash_ends(tokens, history, position, since, min_length, bits, buckets):
    """Bucket of the last `min_length` tokens at the end of each token, by a rolling polynomial.

    tokens (T,) int64; history: those before, a ring; since: how many of them since the boundary;
    buckets (T,) uint32 is written; with too few tokens before, that of all since the boundary.
    """
    last = len(history) - 1
    shift = _WORD - np.uint64(bits)
    weight = _ONE  # of the token that leaves
    for _ in range(min_length):
        weight *= _RADIX
    code = np.uint64(0)
    for t in range(position - min(since, min_length), position):
        code = code * _RADIX + np.uint64(history[t & last]) + _ONE
    for i in range(len(tokens)):
        code = code * _RADIX + np.uint64(tokens[i]) + _ONE
        if since + i >= min_length:
            j = i - min_length
            leaving = tokens[j] if j >= 0 else np.int64(history[(position + j) & last])
            code -= (np.uint64(leaving) + _ONE) * weight
        mixed = (code ^ (code >> _HALF)) * _MURMUR
        buckets[i] = mixed >> shift


@jit
def match(tokens, history, slots, bits, min_length, state, position, fields):
    """Write down the match before each token, follow it or lose it, look for a longer one.

    tokens (T,) int64, the first at `position` of the stream; history (2**n,) uint32: the ring of
    the last tokens; slots (2**bits,) uint32: where the token stands that followed the last sight of
    a context, 0 for none; state (3,) int64: where the token stands that followed the match, how
    long it is (0: there is none), tokens since the boundary. fields (T, 3) uint32 is written unless
    it is empty. A slot is never trusted: the tokens before are compared.
    """
    n_tokens = len(tokens)
    records = len(fields) > 0
    window = len(history)
    last = window - 1
    buckets = np.empty(n_tokens, np.uint32)
    hash_ends(tokens, history, position, state[SINCE], min_length, bits, buckets)
    pointer, length, since = state
    for i in range(n_tokens):
        prefetch(slots, buckets[min(i + 2 * PREFETCH_DISTANCE, n_tokens - 1)])
        prefetch(history, slots[buckets[min(i + PREFETCH_DISTANCE, n_tokens - 1)]] & last)

        t = position + i
        if records:
            fields[i, LENGTH] = length
            fields[i, HINT] = history[pointer & last] if length > 0 else 0
            fields[i, DISTANCE] = t - pointer if length > 0 else 0

        # Only now the token.
        if length > 0:
            length = length + 1 if history[pointer & last] == tokens[i] else 0
            pointer += 1
        history[t & last] = tokens[i]
        since += 1
        if since < min_length:
            continue
        candidate = np.int64(slots[buckets[i]])
        slots[buckets[i]] = t + 1
        if candidate == 0 or length >= LONG or (length > 0 and candidate == pointer):
            continue
        # The oldest token still in the ring is the one at t + 1 - window.
        most = min(since, MOST_COMPARED, candidate, candidate + window - t - 1)
        compared = 0
        while (
            compared < most
            and history[(candidate - 1 - compared) & last] == history[(t - compared) & last]
        ):
            compared += 1
        if compared >= min_length and compared >= length:  # of equals, the latest
            pointer, length = candidate, compared
    state[POINTER], state[MATCHED], state[SINCE] = pointer, length, since
