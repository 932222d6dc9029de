"""The longest earlier match before each token; then the token is learned."""

import numpy as np

from ngrammix.kernels.index import PREFETCH_DISTANCE
from ngrammix.kernels.jit import jit, prefetch

# Columns of the matches.
LENGTH, HINT, DISTANCE = range(3)
N_COLUMNS = 3

# Columns of the repeats that ended.
N_ENDED_COLUMNS = 3  # position after the last token, of both copies; length

# The state between calls.
POINTER, MATCHED, SINCE_BOUNDARY = range(3)
N_STATE = 3

LONG_MATCH = 32  # tokens: a match of this length is followed without looking for a longer one
LONG_REPEAT = 16  # tokens: the end of a match of this length is noted
MAX_ENDED = 512  # ends that are kept, a power of two
MAX_COMPARED = 1024  # tokens compared when a match begins; after that its length grows freely

# Odd multipliers: of a linear congruential generator (Knuth, MMIX), and of MurmurHash3's finalizer.
_RADIX = np.uint64(6364136223846793005)
_MURMUR = np.uint64(0xC4CEB9FE1A85EC53)
_ONE, _HALF, _WORD = np.uint64(1), np.uint64(32), np.uint64(64)


@jit
def hash_contexts(tokens, history, position, since_boundary, min_length, bits, buckets):
    """Hash the last `min_length` tokens up to and with each token, by a rolling polynomial.

    tokens (T,) int64. history: ring of the tokens before. since_boundary: how many of them follow
    the last boundary. buckets (T,) uint32 is written: the slot of each hash. Where fewer than
    `min_length` tokens follow the boundary, the hash is of all of them.
    """
    ring_mask = len(history) - 1
    shift = _WORD - np.uint64(bits)
    weight = _ONE  # of the token that leaves the hash
    for _ in range(min_length):
        weight *= _RADIX
    code = np.uint64(0)
    for t in range(position - min(since_boundary, min_length), position):
        code = code * _RADIX + np.uint64(history[t & ring_mask]) + _ONE
    for i in range(len(tokens)):
        code = code * _RADIX + np.uint64(tokens[i]) + _ONE
        if since_boundary + i >= min_length:
            j = i - min_length
            leaving = tokens[j] if j >= 0 else np.int64(history[(position + j) & ring_mask])
            code -= (np.uint64(leaving) + _ONE) * weight
        mixed = (code ^ (code >> _HALF)) * _MURMUR
        buckets[i] = mixed >> shift


@jit
def match(tokens, history, slots, bits, min_length, state, position, matches, ended, n_ended):
    """Write the match before each token, follow or end it, and look for a longer one.

    tokens (T,) int64, the first at `position` of the stream. history (2**n,) uint32: ring of the
    last tokens, updated. slots (2**bits,) uint32, updated: for each hash of `min_length` tokens,
    the position after its most recent occurrence, 0 for none. state (3,) int64, updated: position
    of the hint, length of the match (0 for none), tokens since the boundary. matches (T, 3) uint32
    is written, unless it is empty. ended (512, 3) int64: ring of the long matches that ended,
    updated; n_ended: how many did so far. Returns the same after the tokens. A slot is never
    trusted: the tokens before it are compared.
    """
    n_tokens = len(tokens)
    has_matches = len(matches) > 0
    window = len(history)
    ring_mask = window - 1
    buckets = np.empty(n_tokens, np.uint32)
    hash_contexts(tokens, history, position, state[SINCE_BOUNDARY], min_length, bits, buckets)
    pointer, length, since_boundary = state
    for i in range(n_tokens):
        prefetch(slots, buckets[min(i + 2 * PREFETCH_DISTANCE, n_tokens - 1)])
        prefetch(history, slots[buckets[min(i + PREFETCH_DISTANCE, n_tokens - 1)]] & ring_mask)

        t = position + i
        if has_matches:
            matches[i, LENGTH] = length
            matches[i, HINT] = history[pointer & ring_mask] if length > 0 else 0
            matches[i, DISTANCE] = t - pointer if length > 0 else 0

        # The token itself is used only from here on.
        if length > 0:
            if history[pointer & ring_mask] == tokens[i]:
                length += 1
            else:
                if length >= LONG_REPEAT:
                    row = ended[n_ended & (MAX_ENDED - 1)]
                    row[0], row[1], row[2] = t, pointer, length
                    n_ended += 1
                length = 0
            pointer += 1
        history[t & ring_mask] = tokens[i]
        since_boundary += 1
        if since_boundary < min_length:
            continue
        candidate = np.int64(slots[buckets[i]])
        slots[buckets[i]] = t + 1
        if candidate == 0 or length >= LONG_MATCH or (length > 0 and candidate == pointer):
            continue
        # The oldest token still in the ring is at position t + 1 - window.
        longest = min(since_boundary, MAX_COMPARED, candidate, candidate + window - t - 1)
        compared = 0
        while (
            compared < longest
            and history[(candidate - 1 - compared) & ring_mask]
            == history[(t - compared) & ring_mask]
        ):
            compared += 1
        if compared >= min_length and compared >= length:  # a tie goes to the latest
            pointer, length = candidate, compared
    state[POINTER], state[MATCHED], state[SINCE_BOUNDARY] = pointer, length, since_boundary
    return n_ended
