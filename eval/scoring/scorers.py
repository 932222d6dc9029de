"""Scorers: the cost of each target under the mixture, the model alone, or the cache alone.

A scorer works in two halves. `observe` needs the tokens alone, so it can run ahead of the forward
pass, or in another process. `score` needs the model's log-probabilities.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from eval.scoring.batch import Batch, split_at_documents
from eval.scoring.metrics import Scored
from eval.types import Tokens
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.mixer import Mixer
from ngrammix.model_logprobs import ModelLogprobs
from ngrammix.observed import Observed, observed_by


class Scorer(Protocol):
    """Scores batches in stream order, each one after it was observed.

    Attributes
    ----------
    mixer : Mixer or None
        The mixer, if model and cache are mixed.
    cache : NgramCache or None
        The cache, if there is one.
    """

    @property
    def mixer(self) -> Mixer | None: ...  # noqa: D102

    @property
    def cache(self) -> NgramCache | None: ...  # noqa: D102

    def observe(self, batch: Batch) -> Sequence[Observed]:
        """Evidence for each target from the tokens before it; the cache then learns the target."""

    def score(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """Nats of each target; call once for each observed batch, in the same order."""

    def replay(self, batch: Batch) -> None:
        """Let the cache learn targets that an earlier run has scored."""


class MixtureScorer:
    """Scores with a mixture of model and cache."""

    def __init__(self, mixer: Mixer) -> None:
        self.mixer, self.cache = mixer, mixer.cache

    def observe(self, batch: Batch) -> list[Observed]:
        """Evidence and hints for each target."""
        return [self.mixer.observe(tokens) for tokens in document_tokens(batch, self.mixer)]

    def score(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """Nats of each target under the mixture, the model and the cache."""
        if model is None:
            raise ValueError("a mixture needs the model's log-probabilities, got None; pass them")
        scores, start = [], 0
        for part in observed:
            scores.append(self.mixer.score_observed(part, model[start : start + len(part)]))
            start += len(part)
        return Scored(
            nats=np.concatenate([part.nats for part in scores]),
            nats_model=0.0 - model.log_p,
            **batch_columns(batch),
            **cache_columns(observed, self.mixer.vocab_size),
        )

    def replay(self, batch: Batch) -> None:
        """Let the mixer's cache learn the targets."""
        for tokens in document_tokens(batch, self.mixer):
            self.mixer.learn(tokens)


class ModelScorer:
    """Scores with the model alone."""

    mixer = cache = None

    def observe(self, batch: Batch) -> list[Observed]:
        """No evidence: there is no cache."""
        return []

    def score(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """Nats of each target under the model."""
        if model is None:
            raise ValueError("the model's log-probabilities are needed, got None; pass them")
        nats = 0.0 - model.log_p
        return Scored(nats=nats, nats_model=nats, **batch_columns(batch))

    def replay(self, batch: Batch) -> None:
        """Nothing: there is no cache."""


class CacheScorer:
    """Scores with the cache alone."""

    mixer = None

    def __init__(self, cache: NgramCache) -> None:
        self.cache = cache

    def observe(self, batch: Batch) -> list[Observed]:
        """Evidence for each target."""
        return [observed_by(self.cache, tokens) for tokens in document_tokens(batch, self.cache)]

    def score(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """Nats of each target under the cache; `model` is not used."""
        columns = cache_columns(observed, self.cache.vocab_size)
        return Scored(nats=columns["nats_cache"], **batch_columns(batch), **columns)

    def replay(self, batch: Batch) -> None:
        """Let the cache learn the targets."""
        for tokens in document_tokens(batch, self.cache):
            self.cache.learn(tokens)


def document_tokens(batch: Batch, learner: Mixer | NgramCache) -> Iterator[Tokens]:
    """Targets that share context; `learner.boundary` is called where a new context begins."""
    for tokens, is_context_start in split_at_documents(batch):
        if is_context_start:
            learner.boundary()
        yield tokens


def concatenate_hints(observed: Sequence[Observed], n_targets: int) -> Tokens:
    """(N, M) int64: the hint tokens of N targets; M is 0 if the scorer uses no hints."""
    hints = [part.hint_tokens for part in observed if part.hint_tokens is not None]
    return np.concatenate(hints) if hints else np.empty((n_targets, 0), np.int64)


def batch_columns(batch: Batch) -> dict[str, Any]:
    """Columns of `Scored` that the batch itself gives: ids, bytes, document starts."""
    return {
        "tokens": batch.targets,
        "n_bytes": np.concatenate([piece.n_bytes for piece in batch.pieces]),
        "begins": np.concatenate([piece.begins for piece in batch.pieces]),
    }


def cache_columns(observed: Sequence[Observed], vocab_size: int) -> dict[str, Any]:
    """Columns of `Scored` that the cache alone gives."""
    return {
        "nats_cache": np.concatenate([part.nats_cache(vocab_size) for part in observed]),
        "matched_order": np.concatenate([part.evidence.matched_order for part in observed]),
        "is_repeat": np.concatenate([part.is_repeat for part in observed]),
    }
