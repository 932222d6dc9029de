"""Features: numbers of the model and of exact counts that every published rule takes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.logits import lookup_logprobs

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


class Counts:
    """Counts of both kinds from one stream: Kneser-Ney's, and the raw ones of the published rules.

    A cache counts raw only what follows its longest contexts. So the raw counts after k tokens are
    the last row of a cache of order k + 1, of which there is one for each k.

    Parameters
    ----------
    order : int in 1..32
        Length of the longest n-gram, the predicted token included.
    **cache
        Further arguments of every `NgramCache`.
    """

    def __init__(self, order: int, **cache: Any) -> None:
        longest = NgramCache(order=order, **cache)
        shorter = [NgramCache(order=k, **cache) for k in range(1, longest.order)]
        self._caches = [*shorter, longest]

    @property
    def vocab_size(self) -> int:
        """V."""
        return self._caches[-1].vocab_size

    def learn(self, tokens: Tokens) -> None:
        """Learn tokens (T,) without evidence."""
        for cache in self._caches:
            cache.learn(tokens)

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        for cache in self._caches:
            cache.boundary()

    def observe(self, tokens: Tokens) -> tuple[Evidence, Evidence]:
        """Evidence of tokens (T,) in Kneser-Ney's counts and in raw ones; then they are learned."""
        seen = [cache.observe(tokens) for cache in self._caches]
        return seen[-1], Evidence.from_longest(seen)


def longest_context(evidence: Evidence) -> Tokens:
    """(N,): tokens of the longest context with followers; 0 where there is none of a token."""
    return np.maximum(evidence.matched_order - 1, 0)


def longest_hint(evidence: Evidence) -> Tokens:
    """(N,): most frequent follower of that context; -1 where there is none of a token."""
    context = longest_context(evidence)
    hint = evidence.hint[context, np.arange(len(evidence))].astype(np.int64)
    return np.where(context > 0, hint, -1)


@dataclass(frozen=True, eq=False)
class Features:
    """What is known of each of N tokens.

    Only `log_p`, `is_hint` and the evidence's `target_count` know which token came. Matches and
    hints are read from Kneser-Ney's counts: after the longest contexts they are the raw ones.

    Attributes
    ----------
    log_p, entropy : (N,) float64, nats
        The model's log-probability of the token, and the entropy of its distribution.
    log_hint : (N,) float64, nats
        The model's log-probability of the hint, -inf where there is none.
    is_hint : (N,) bool
        Whether the token is the hint of the longest context with followers.
    evidence, raw : Evidence
        Of the N positions, from the strict prefix, in Kneser-Ney's counts and in raw ones.
    vocab_size : int
        V.
    """

    log_p: Floats
    entropy: Floats
    log_hint: Floats
    is_hint: NDArray[np.bool_]
    evidence: Evidence
    raw: Evidence
    vocab_size: int

    @cached_property
    def context(self) -> Tokens:
        """(N,): tokens of the longest context with followers; 0 where there is none of a token."""
        return longest_context(self.evidence)

    @cached_property
    def followers(self) -> Floats:
        """(N,): n, counts of the longest context."""
        return self._at_longest(self.evidence.followers)

    @cached_property
    def confidence(self) -> Floats:
        """(N,) in [0, 1]: share of the hint in the counts of the longest context."""
        return self._at_longest(self.evidence.hint_count) / np.maximum(self.followers, 1)

    @cached_property
    def log_match(self) -> Floats:
        """(N,) nats: log of c / n after the longest context, the maximum-likelihood ratio."""
        counts = self._at_longest(self.evidence.target_count)
        with np.errstate(divide="ignore"):  # log 0 = -inf: never seen there
            return np.log(counts) - np.log(np.maximum(self.followers, 1))

    @cached_property
    def log_backoff(self) -> Floats:
        """(N,) nats: log of the cache's own probability, Kneser-Ney's with learned discounts."""
        return log_target_probability(self.evidence, self.vocab_size)

    @cached_property
    def log_raw_backoff(self) -> Floats:
        """(N,) nats: the same from raw counts: absolute discounting."""
        return log_target_probability(self.raw, self.vocab_size)

    def _at_longest(self, counts: NDArray[np.uint32]) -> Floats:
        return counts[self.context, np.arange(len(self.context))].astype(np.float64)


def make_facts(counts: Counts, logits: Any, targets: Tokens, places: Tokens) -> Features:
    """Features about the next tokens of the stream, which the counts then learn.

    logits (N, V) of any kind; targets (N,); places (N,): where they stand, for the errors.
    ValueError if a logit is NaN or +inf, or a target has no probability.
    """
    evidence, raw = counts.observe(targets)
    hints = longest_hint(evidence)
    model = lookup_logprobs(logits, targets, places, hints[:, None])
    return Features(
        log_p=model.log_p,
        entropy=model.entropy,
        log_hint=model.log_hints[:, 0],
        is_hint=hints == targets,
        evidence=evidence,
        raw=raw,
        vocab_size=counts.vocab_size,
    )
