"""Observer: the half of the mixer that reads tokens alone; it may run ahead of the model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.proposer import Hints, Proposer

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Observed:
    """T tokens of the stream, and what the tokens before each of them said.

    Attributes
    ----------
    position : int
        How many tokens of the stream came before.
    tokens : (T,) int64
        The tokens, by now learned by the cache.
    evidence : Evidence
        Of the cache, at T positions.
    hints : Hints or None
        What the model is to be hint_tokens for beside the targets; None if nothing makes use of it.
    """

    position: int
    tokens: Tokens
    evidence: Evidence
    hints: Hints | None

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    @property
    def hint_tokens(self) -> Tokens | None:
        """(T, M) int64: the hints that the model is to be hint_tokens for, -1 for none."""
        return None if self.hints is None else self.hints.tokens

    @property
    def is_repeat(self) -> NDArray[np.bool_]:
        """(T,): whether the n-gram of `order` tokens that ends here is in the cache already."""
        repeats: NDArray[np.bool_] = self.evidence.target_count[-1] > 0
        return repeats

    def nats_cache(self, vocab_size: int) -> NDArray[np.float64]:
        """(T,) float64, nats: what the tokens cost under the cache alone."""
        return 0.0 - log_target_probability(self.evidence, vocab_size)


class Observer:
    """The cache, and what names the hints; one stream, and neither ever sees a logit.

    Parameters
    ----------
    cache : NgramCache
        Empty, or loaded.
    """

    def __init__(self, cache: NgramCache) -> None:
        self.cache = cache
        self.proposer = Proposer(cache.vocab_size, cache.order, cache.memory_limit)

    @property
    def nbytes(self) -> int:
        """Bytes of the cache's tables, and of what the hints take."""
        return self.cache.nbytes + self.proposer.nbytes

    def observe(self, tokens: Tokens, *, asks_hints: bool) -> Observed:
        """What is known before each of tokens (T,), T >= 1; each is then learned."""
        position = self.cache.position
        evidence = self.cache._observe(tokens)
        if asks_hints:
            return Observed(position, tokens, evidence, self.proposer.observe(tokens, evidence))
        self.proposer.learn(tokens)
        return Observed(position, tokens, evidence, None)

    def peek(self) -> tuple[Evidence, Hints]:
        """What is known before the one token to come."""
        evidence = self.cache.peek()
        return evidence, self.proposer.peek(evidence)

    def learn(self, tokens: Tokens) -> None:
        """Learn tokens (T,), T >= 1, of which nothing is hint_tokens."""
        self.cache._learn(tokens)
        self.proposer.learn(tokens)

    def boundary(self) -> None:
        """Begin a new document: neither context nor match reaches back over this point."""
        self.cache.boundary()
        self.proposer.boundary()
