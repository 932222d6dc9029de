"""Features: what the published rules need of the model and of exact counts."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eval.types import Bools, Floats, Tokens
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.logits import lookup_logprobs
from ngrammix.types import Counts


class RawAndKnCounts:
    """Counts of one stream of both kinds: Kneser-Ney counts, and the raw ones of published rules.

    Below its longest context a cache holds Kneser-Ney counts. Raw counts after k tokens are thus
    the last row of a cache of order k + 1, and one cache is needed for each k.

    Parameters
    ----------
    order : int in 1..64
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
        """Begin a new document: contexts do not extend over this position."""
        for cache in self._caches:
            cache.boundary()

    def observe(self, tokens: Tokens) -> tuple[Evidence, Evidence]:
        """(Kneser-Ney evidence, raw evidence) of tokens (T,), which are then learned."""
        evidence = [cache.observe(tokens) for cache in self._caches]
        return evidence[-1], Evidence.from_longest(evidence)


def longest_context(evidence: Evidence) -> Tokens:
    """(N,) int64: length in tokens of the longest context with followers; 0 if there is none."""
    return np.maximum(evidence.matched_order - 1, 0)


def longest_hint(evidence: Evidence) -> Tokens:
    """(N,) int64: the most frequent follower of that context; -1 if there is none."""
    context = longest_context(evidence)
    hint = evidence.hint[context, np.arange(len(evidence))].astype(np.int64)
    return np.where(context > 0, hint, -1)


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N tokens, from the tokens before each one.

    Only `log_p`, `is_hint` and the evidence's `target_count` depend on the token itself. Matches
    and hints use Kneser-Ney counts, which equal raw counts after the longest contexts.

    Attributes
    ----------
    log_p, entropy : (N,) float64, nats
        Log-probability of the token under the model, and entropy of the model's distribution.
    log_hint : (N,) float64, nats
        Log-probability of the hint under the model; -inf if there is no hint.
    is_hint : (N,) bool
        Whether the token is the hint of the longest context with followers.
    evidence, raw : Evidence
        Kneser-Ney and raw counts at the N positions.
    vocab_size : int
        V.
    """

    log_p: Floats
    entropy: Floats
    log_hint: Floats
    is_hint: Bools
    evidence: Evidence
    raw: Evidence
    vocab_size: int

    @cached_property
    def context(self) -> Tokens:
        """(N,) int64: length in tokens of the longest context with followers; 0 if none."""
        return longest_context(self.evidence)

    @cached_property
    def followers(self) -> Floats:
        """(N,) float64: n, the number of followers of the longest context."""
        return self._at_longest(self.evidence.followers)

    @cached_property
    def confidence(self) -> Floats:
        """(N,) float64 in [0, 1]: share of the hint among the followers of the longest context."""
        return self._at_longest(self.evidence.hint_count) / np.maximum(self.followers, 1)

    @cached_property
    def log_match(self) -> Floats:
        """(N,) float64, nats: log of c / n after the longest context, the maximum likelihood."""
        counts = self._at_longest(self.evidence.target_count)
        with np.errstate(divide="ignore"):  # log 0 = -inf: never seen after this context
            return np.log(counts) - np.log(np.maximum(self.followers, 1))

    @cached_property
    def log_backoff(self) -> Floats:
        """(N,) float64, nats: log-probability under the cache: Kneser-Ney, learned discounts."""
        return log_target_probability(self.evidence, self.vocab_size)

    @cached_property
    def log_raw_backoff(self) -> Floats:
        """(N,) float64, nats: log-probability by absolute discounting of raw counts."""
        return log_target_probability(self.raw, self.vocab_size)

    def _at_longest(self, counts: Counts) -> Floats:
        return counts[self.context, np.arange(len(self.context))].astype(np.float64)


def make_features(
    counts: RawAndKnCounts, logits: Any, targets: Tokens, positions: Tokens
) -> Features:
    """Features of the next N tokens of the stream, which the counts then learn.

    logits (N, V); targets (N,); positions (N,): indices in the stream, for the error texts.
    ValueError if a logit is NaN or +inf, or a target has probability 0.
    """
    evidence, raw = counts.observe(targets)
    hints = longest_hint(evidence)
    model = lookup_logprobs(logits, targets, positions, hints[:, None])
    return Features(
        log_p=model.log_p,
        entropy=model.entropy,
        log_hint=model.log_hints[:, 0],
        is_hint=hints == targets,
        evidence=evidence,
        raw=raw,
        vocab_size=counts.vocab_size,
    )
