"""Streams: sequences on which hidden faults show, and random ones with known probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ngrammix.types import Floats, Tokens

N_KINDS = 7  # of changes
REPEATED = 0.5  # probability that a random stream goes on as it went on before


def adversarial(vocab_size: int, n_tokens: int, rng: np.random.Generator) -> Tokens:
    """(n_tokens,) int64: repeats, runs, rare tokens and both ends of the vocabulary.

    Half of it is text-like: tokens by Zipf's law, with phrases that come back.
    """
    shares = 1.0 / np.arange(1, vocab_size + 1)
    ranks = rng.permutation(vocab_size)
    pieces: list[Tokens] = [np.array([0, vocab_size - 1, 0, vocab_size - 1])]
    size = 4
    while size < n_tokens:
        kind = rng.integers(6)
        length = int(rng.integers(2, 65))
        if kind == 0:  # a run
            piece = np.full(length, rng.integers(vocab_size))
        elif kind == 1:  # any tokens
            piece = rng.integers(vocab_size, size=length)
        elif kind == 2:  # what stood before, at any place
            past = np.concatenate(pieces)
            start = int(rng.integers(len(past)))
            piece = past[start : start + length]
        else:
            piece = ranks[rng.choice(vocab_size, size=length, p=shares / shares.sum())]
        pieces.append(piece)
        size += len(piece)
    return np.concatenate(pieces)[:n_tokens].astype(np.int64)


def changed(
    tokens: Tokens,
    start: int,
    end: int,
    vocab_size: int,
    kind: int,
    rng: np.random.Generator,
    ends: tuple[int, ...] = (),
) -> Tokens:
    """A copy of tokens[:end] that differs from position `start` on, there for certain.

    Parameters
    ----------
    kind : int
        What is put in, modulo `N_KINDS`: any tokens; one other token, and then the same; tokens of
        the stream; one token over and over; the stream from another place; the prefix once more;
        tokens that the stream does not hold.
    ends : tuple of int
        Tokens that are put in over and over, beside the first and the last of the vocabulary.
    """
    copy, n, kind = tokens[:end].copy(), end - start, kind % N_KINDS
    old = int(copy[start])
    if kind == 0:
        drawn = rng.integers(vocab_size, size=n)
    elif kind == 1:
        drawn = copy[start:].copy()
        drawn[0] = rng.integers(vocab_size)
    elif kind == 2:
        drawn = rng.choice(tokens, n)
    elif kind == 3:
        ends = (*ends, 0, vocab_size - 1, int(copy[start - 1]) if start else 0)
        drawn = np.full(n, ends[int(rng.integers(len(ends)))])
    elif kind == 4:
        drawn = np.resize(np.roll(tokens, -int(rng.integers(len(tokens)))), n)
    elif kind == 5:
        drawn = np.resize(tokens[: max(1, start)], n)
    else:
        unseen = np.setdiff1d(rng.integers(vocab_size, size=64), tokens)
        drawn = np.resize(unseen if len(unseen) else np.array([vocab_size - 1]), n)
    copy[start:] = drawn
    copy[start] = other_than(old, int(copy[start]), vocab_size)
    return copy


def other_than(old: int, token: int, vocab_size: int) -> int:
    """The token, or the next one if it is `old`."""
    return token if token != old else (old + 1) % vocab_size


@dataclass(frozen=True)
class Proposal:
    """A distribution of streams whose probabilities are known.

    Attributes
    ----------
    alphabet : tuple of int
        The tokens that occur, each as likely as the others.
    repeats : bool
        With probability `REPEATED` the next token is the one that followed the last time.
    """

    alphabet: tuple[int, ...]
    repeats: bool

    def draw(self, n_tokens: int, rng: np.random.Generator) -> Tokens:
        """A random stream, (n_tokens,) int64."""
        letters = np.array(self.alphabet, np.int64)
        drawn = letters[rng.integers(len(letters), size=n_tokens)]
        if not self.repeats:
            return drawn
        goes_on, tokens = rng.random(n_tokens) < REPEATED, drawn.tolist()
        after: dict[int, int] = {}
        for t in range(1, n_tokens):
            before = tokens[t - 1]
            if goes_on[t] and before in after:
                tokens[t] = after[before]
            after[before] = tokens[t]
        return np.array(tokens, np.int64)

    def log_probs(self, tokens: Tokens) -> Floats:
        """(n,) nats: the logarithm of each token's probability, given those before it."""
        n = len(self.alphabet)
        if not self.repeats:
            return np.full(len(tokens), -np.log(n))
        after: dict[int, int] = {}
        p = np.full(len(tokens), 1.0 / n)
        stream: Sequence[int] = tokens.tolist()
        for t in range(1, len(stream)):
            before, token = stream[t - 1], stream[t]
            if before in after:
                p[t] = (1 - REPEATED) / n + REPEATED * (after[before] == token)
            after[before] = token
        log_p: Floats = np.log(p)
        return log_p


def proposals(vocab_size: int, n: int, rng: np.random.Generator) -> list[Proposal]:
    """N distributions: all tokens or few, with and without repeats."""
    found = []
    for i in range(n):
        size = min(vocab_size, (vocab_size, 4, 32, vocab_size)[i % 4])
        letters = rng.permutation(vocab_size)[:size] if size < vocab_size else range(vocab_size)
        found.append(Proposal(tuple(map(int, letters)), repeats=i % 4 in (1, 3)))
    return found
