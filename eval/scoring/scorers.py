"""What prices the targets: the model and the cache mixed, or one of the two alone.

Each works in two halves: `look` needs the tokens alone, and may run ahead of the model or where the
model does not; `settle` needs what the model said.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.scoring.batch import Batch
from eval.scoring.metrics import Scored
from ngrammix import snapshot
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.logits import ModelLogprobs
from ngrammix.mixer import Mixer
from ngrammix.observed import Observed

Tokens = NDArray[np.int64]
Taken = TypeVar("Taken")


class Scorer(Protocol):
    """What scoring asks of whatever prices the tokens."""

    def look(self, batch: Batch) -> Sequence[Observed]:
        """What is known before each target; call it in the order of the stream."""

    def settle(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """What the targets cost; call it in the order of the stream, once what was looked at."""

    @property
    def regret_bits(self) -> float | None:
        """Bits spent so far minus the model's own, or None without both."""

    @property
    def bound_bits(self) -> float | None:
        """What `regret_bits` cannot exceed."""

    @property
    def cache(self) -> NgramCache | None:
        """The cache, if there is one."""

    def replay(self, batch: Batch) -> None:
        """Learn targets that an earlier run has scored."""

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What was learned beside the tokens."""

    def load_state_dict(self, experience: dict[str, NDArray[Any]]) -> None:
        """Go on, after all targets of an earlier run were replayed, with its `state_dict`."""


class MixtureScorer:
    """The model and the cache, mixed.

    Parameters
    ----------
    mixer : Mixer
        New, or loaded from where a run stopped.
    """

    def __init__(self, mixer: Mixer) -> None:
        self._mixer = mixer

    @property
    def regret_bits(self) -> float:
        """See `Scorer`."""
        return self._mixer.regret_bits

    @property
    def bound_bits(self) -> float:
        """See `Scorer`."""
        return self._mixer.bound_bits

    @property
    def cache(self) -> NgramCache:
        """See `Scorer`."""
        return self._mixer.cache

    def look(self, batch: Batch) -> list[Observed]:
        """See `Scorer`."""
        return follow(batch, self._mixer, self._mixer.observe)

    def settle(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """See `Scorer`."""
        if model is None:
            raise ValueError("a mixture needs the model's numbers, got none; gather them first")
        traces, start = [], 0
        for known in observed:
            traces.append(self._mixer.score_observed(known, model[start : start + len(known)]))
            start += len(known)
        return Scored(
            nats=np.concatenate([trace.nats for trace in traces]),
            nats_model=0.0 - model.log_p,
            **of_batch(batch),
            **of_cache(observed, self._mixer.vocab_size),
        )

    def replay(self, batch: Batch) -> None:
        """See `Scorer`."""
        follow(batch, self._mixer, self._mixer.learn)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """See `Scorer`."""
        return self._mixer.state_dict()

    def load_state_dict(self, experience: dict[str, NDArray[Any]]) -> None:
        """See `Scorer`."""
        self._mixer.load_state_dict(experience)


class TokensAlone:
    """Whatever is made of the tokens alone: there is nothing to keep beside them."""

    regret_bits = bound_bits = None

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """See `Scorer`: nothing."""
        return {}

    def load_state_dict(self, experience: dict[str, NDArray[Any]]) -> None:
        """See `Scorer`."""
        snapshot.load_arrays({}, experience)


class ModelScorer(TokensAlone):
    """The model, as if there were no cache."""

    cache = None

    def look(self, batch: Batch) -> list[Observed]:
        """See `Scorer`: nothing."""
        return []

    def settle(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """See `Scorer`."""
        if model is None:
            raise ValueError("the model alone needs its numbers, got none; gather them first")
        nats = 0.0 - model.log_p
        return Scored(nats=nats, nats_model=nats, **of_batch(batch))

    def replay(self, batch: Batch) -> None:
        """See `Scorer`: nothing is learned."""


class CacheScorer(TokensAlone):
    """The cache, without any model.

    Parameters
    ----------
    cache : NgramCache
        New, or loaded from where a run stopped.
    """

    def __init__(self, cache: NgramCache) -> None:
        self.cache = cache

    def look(self, batch: Batch) -> list[Observed]:
        """See `Scorer`."""

        def observe(tokens: Tokens) -> Observed:
            return Observed(self.cache.position, tokens, self.cache.observe(tokens), None)

        return follow(batch, self.cache, observe)

    def settle(
        self, batch: Batch, observed: Sequence[Observed], model: ModelLogprobs | None
    ) -> Scored:
        """See `Scorer`; `model` is not looked at."""
        known = of_cache(observed, self.cache.vocab_size)
        return Scored(nats=known["nats_cache"], **of_batch(batch), **known)

    def replay(self, batch: Batch) -> None:
        """See `Scorer`."""
        follow(batch, self.cache, self.cache.learn)


def follow(
    batch: Batch, learner: Mixer | NgramCache, take: Callable[[Tokens], Taken]
) -> list[Taken]:
    """What `take` makes of each stretch of targets; the learner is told where one starts afresh."""
    taken = []
    for tokens, is_apart in stretches(batch):
        if is_apart:
            learner.boundary()
        taken.append(take(tokens))
    return taken


def hint_tokens(observed: Sequence[Observed]) -> Tokens | None:
    """(N, M): what the model is to be asked for beside the targets, or None for nothing."""
    hints = [known.hint_tokens for known in observed if known.hint_tokens is not None]
    return np.concatenate(hints) if hints else None


def stretches(batch: Batch) -> Iterator[tuple[Tokens, bool]]:
    """Targets that follow each other, and whether they start afresh."""
    run: list[Tokens] = []
    is_apart = False
    for piece in batch.new:
        if piece.is_apart and run:
            yield np.concatenate(run), is_apart
            run = []
        is_apart = piece.is_apart if not run else is_apart
        run.append(piece.tokens)
    yield np.concatenate(run), is_apart


def of_batch(batch: Batch) -> dict[str, Any]:
    """Ids, bytes and beginnings of the targets."""
    return {
        "tokens": batch.targets,
        "n_bytes": np.concatenate([piece.n_bytes for piece in batch.new]),
        "begins": np.concatenate([piece.begins for piece in batch.new]),
    }


def of_cache(observed: Sequence[Observed], vocab_size: int) -> dict[str, Any]:
    """What the cache by itself says of the targets."""
    return {
        "nats_cache": np.concatenate([known.nats_cache(vocab_size) for known in observed]),
        "matched_order": np.concatenate([known.evidence.matched_order for known in observed]),
        "is_repeat": np.concatenate([known.is_repeat for known in observed]),
    }
