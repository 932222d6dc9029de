"""A stream of any length with real statistics: an order-2 sampler over real tokens."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels.jit import jit


@jit
def draw(tokens, first, positions, state, sampled):
    """Each next token is the one that followed a random earlier sight of the last two.

    tokens (N,) int64; positions (N - 2,) int64: where each pair of tokens ends, pairs together, in
    the order of `first` (P,) int64, which gives for each position's pair its first place there;
    state: uint64 seed > 0; sampled (T,) int64 is written.
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
        if at == len(tokens) - 1:  # nothing follows the last token: begin anew
            at = 1


def synthesize(tokens: NDArray[np.int64], n_tokens: int, seed: int = 1) -> NDArray[np.int64]:
    """(n_tokens,) int64: tokens that follow each other as in `tokens` (N,), N >= 3.

    Pairs and what follows them are as in the text; longer n-grams repeat less than in a text of
    that length, so that a cache has more to store: a hard case for it, not an easy one.
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
