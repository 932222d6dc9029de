"""Futures: windows that begin alike and go on with other tokens, and where they do so."""

from collections.abc import Callable, Sequence

import numpy as np

from eval.types import Tokens

# From a window (T,), an edge, V and a generator to the tokens (T - edge,) that come in its place.
Kind = Callable[[Tokens, int, int, np.random.Generator], Tokens]
Kinds = Sequence[Kind]

PAD = 0  # the token that fills up the shorter windows of a batch


def window(text: Tokens, length: int) -> Tokens:
    """(length,) int64: the first tokens of text (N,), which is repeated if it is shorter."""
    return np.resize(text, length)


def all_edges(length: int) -> tuple[list[int], list[int]]:
    """Every place in a window at which the future can begin, in two halves of the same size.

    The first half has the odd places. The second one begins with 0, where all tokens are changed.
    """
    odd, even = [*range(1, length, 2)], [*range(0, length, 2)]
    size = max(len(odd), len(even))
    return odd + [0] * (size - len(odd)), even + [0] * (size - len(even))


def few_edges(length: int) -> list[int]:
    """The most telling places at which the future can begin, best first.

    A prime near the middle lies inside a chunk of any size. The last token has a place of its own.
    Then come the ends of chunks whose size is a power of two, the largest first.
    """
    powers = [2**k for k in range(length.bit_length() - 1, 0, -1) if 2**k < length]
    edges = [largest_prime(max(1, length // 2)), length - 1, *powers, *range(1, length)]
    return [edge for edge in dict.fromkeys(edges) if 0 < edge < length]


def largest_prime(n: int) -> int:
    """The largest prime number <= n, for n >= 2; 1 for n = 1."""
    while any(n % k == 0 for k in range(2, int(n**0.5) + 1)):
        n -= 1
    return n


def any_ids(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
    """Any ids, each other than the token in its place."""
    return (base[edge:] + rng.integers(1, vocab_size, len(base) - edge)) % vocab_size


def own_ids(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
    """Ids of the window, at random; other ids where the old token comes again."""
    drawn = any_ids(base, edge, vocab_size, rng)
    own = rng.choice(base, len(drawn))
    return np.where(own == base[edge:], drawn, own)


def padding(base: Tokens, edge: int, vocab_size: int, rng: np.random.Generator) -> Tokens:
    """Padding; any ids if the window itself holds padding at the edge."""
    drawn = any_ids(base, edge, vocab_size, rng)
    return np.full_like(drawn, PAD) if base[edge] != PAD else drawn


QUICK: Kinds = (any_ids, own_ids, padding)


def with_futures(
    base: Tokens,
    edges: Sequence[int],
    vocab_size: int,
    rng: np.random.Generator,
    kinds: Kinds = QUICK,
) -> Tokens:
    """(1 + E, T) int64: the window, then for each edge one that differs from there on.

    Parameters
    ----------
    base : (T,) int64
        Ids below `vocab_size`.
    edges : E int
        Row i + 1 differs from the base at every position from ``edges[i]`` on. Where the base
        itself holds the padding token, padding changes nothing.
    vocab_size : int >= 2
        Number of ids to choose from.
    rng : numpy.random.Generator
        Draws the ids.
    kinds : sequence of callables
        What comes in the place of the old tokens; the edges take turns.
    """
    rows = np.tile(base, (1 + len(edges), 1))
    for i, edge in enumerate(edges):
        rows[i + 1, edge:] = kinds[i % len(kinds)](base, edge, vocab_size, rng)
    return rows
