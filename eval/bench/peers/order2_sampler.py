"""Streams of any length with the statistics of real tokens: an order-2 sampler."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels.jit import jit


@jit
def draw(tokens, first, positions, state, sampled):
    """Sample tokens: each one followed a random occurrence of the two tokens before it.

    tokens (N,) int64; positions (N - 2,) int64: ends of the pairs of tokens, sorted by pair; first
    (N, 2) int64: for the pair that ends at a position, where its positions begin and end; state:
    uint64 seed > 0; sampled (T,) int64 is written.
    """
    at = 1
    for t in range(len(sampled)):
        # xorshift64* (Vigna 2016)
        state ^= state >> np.uint64(12)
        state ^= state << np.uint64(25)
        state ^= state >> np.uint64(27)
        noise = (state * np.uint64(2685821657736338717)) >> np.uint64(33)
        begin, end = first[at, 0], first[at, 1]
        at = positions[begin + np.int64(noise) % (end - begin)] + 1
        sampled[t] = tokens[at]
        if at == len(tokens) - 1:  # no token follows the last one
            at = 1


def synthesize(tokens: NDArray[np.int64], n_tokens: int, seed: int = 1) -> NDArray[np.int64]:
    """(n_tokens,) int64: tokens that follow each other as in `tokens` (N,), N >= 3.

    Triples of tokens are those of the text. Longer n-grams repeat less than in a text of that
    length, so that a cache stores more of them: a hard case.
    """
    pairs = tokens[:-1] * (int(tokens.max()) + 1) + tokens[1:]  # pair i ends at i + 1
    ends = pairs[:-1]  # the last pair has no follower
    order = np.argsort(ends, kind="stable")
    ranked = ends[order]
    first = np.zeros((len(tokens), 2), np.int64)
    first[1:-1, 0] = np.searchsorted(ranked, ends, side="left")
    first[1:-1, 1] = np.searchsorted(ranked, ends, side="right")
    sampled = np.empty(n_tokens, np.int64)
    draw(tokens, first, order + 1, np.uint64(seed), sampled)
    return sampled
