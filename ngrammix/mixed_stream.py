"""MixedStream: what a mixer does with the tokens of a stream, in two halves and in their order."""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import snapshot
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import NotCopyable, as_tokens, check_threads
from ngrammix.experts.chain import ALL, Experts, check_experts
from ngrammix.logits import ModelLogprobs, as_logits, probabilities, to_numpy
from ngrammix.observer import Observed, Observer
from ngrammix.token_scores import TokenScores

Floats = NDArray[np.float64]


class MixedStream(NotCopyable):
    """The stream of a `Mixer`, which says what the arguments mean and scores in one call.

    `observe` needs tokens alone; `score_observed` needs the model's numbers.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        order: int = 7,
        memory_limit: int | str | None = None,
        n_threads: int = 1,
        experts: str = ALL,
    ) -> None:
        check_experts(experts)
        cache = NgramCache(
            vocab_size=vocab_size, order=order, memory_limit=memory_limit, n_threads=n_threads
        )
        self._become(cache, experts)

    def _become(self, cache: NgramCache, experts: str) -> None:
        """Begin with this cache, and with experts that have learned nothing."""
        self._observer = Observer(cache)
        self._experts = Experts(experts, cache.order, cache.vocab_size)
        self._priced = cache.position  # of the next token to be priced

    @property
    def vocab_size(self) -> int:
        """V: the width of the logits."""
        return self.cache.vocab_size

    @property
    def order(self) -> int:
        """Length of the longest n-gram, the predicted token included."""
        return self.cache.order

    @property
    def position(self) -> int:
        """How many tokens of the stream were scored, observed or learned."""
        return self.cache.position

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; negative where the cache helped."""
        return self._experts.guard.regret_bits

    @property
    def bound_bits(self) -> float:
        """What `regret_bits` cannot exceed, for any data."""
        return self._experts.guard.bound_bits

    @property
    def nbytes(self) -> int:
        """Bytes of the cache's tables, of the hints' and of the learned weights."""
        return self._observer.nbytes + self._experts.nbytes

    @property
    def cache(self) -> NgramCache:
        """The cache: to look at, not to touch."""
        return self._observer.cache

    @property
    def experts(self) -> str:
        """What the mixture is made of, for the signature of a score."""
        return self._experts.names

    def __repr__(self) -> str:
        return f"Mixer(vocab_size={self.vocab_size}, order={self.order}): {self.cache!r}"

    def observe(self, tokens: ArrayLike) -> Observed:
        """What is known before each token, and what to ask the model for; the cache learns them.

        The half of `trace` that needs no logits: it may run while the model computes, or where the
        model does not. `score_observed` is the other half.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream; about 200 bytes of memory each until they are priced.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or none; nothing is learned then.
        """
        ids = as_tokens(to_numpy(tokens), self.vocab_size)
        return self._observer.observe(ids, asks_hints=self._experts.needs_hints)

    def score_observed(self, observed: Observed, model: ModelLogprobs) -> TokenScores:
        """What the observed tokens cost, now that the model was asked; the experts learn it.

        Parameters
        ----------
        observed : Observed
            What `observe` gave: each once, in the same order.
        model : ModelLogprobs
            What ``logits.gather(rows, tokens, places, observed.hint_tokens)`` gives.

        Raises
        ------
        ValueError
            If other tokens are to be priced first, or the two are not of as many tokens.
        """
        if observed.position != self._priced or len(model.log_p) != len(observed):
            raise ValueError(
                f"the token at position {self._priced} is to be priced next, got {len(observed)} "
                f"tokens from {observed.position} on and the model's numbers of {len(model.log_p)};"
                " price what observe gives once, in its order"
            )
        log_mixed = self._experts.mix(observed.tokens, model, observed.evidence, observed.hints)
        self._priced += len(observed)
        return TokenScores(  # 0.0 - x: not -0.0 for a sure token
            0.0 - log_mixed, 0.0 - model.log_p, observed.evidence.matched_order
        )

    def _check_all_scored(self) -> None:
        """Raise ValueError if an observed token is not priced yet."""
        if self._priced != self.position:
            raise ValueError(
                f"every observed token must be priced first, got {self.position - self._priced} "
                "that are not; call price with what observe gave"
            )

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens that are not scored: context, or a prefill.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or none; nothing is learned then.
        """
        ids = as_tokens(to_numpy(tokens), self.vocab_size)
        self._check_all_scored()
        self._observer.learn(ids)
        self._priced = self.position

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        self._observer.boundary()

    def probs(self, logits_row: Any) -> Floats:
        """Probability of every next token, before it is seen: (V,) float64, sum 1.

        Parameters
        ----------
        logits_row : (V,) float, numpy or torch on any device
            Unnormalised, for the next position of the stream.

        Raises
        ------
        ValueError
            If the shape is not (V,), or a logit is NaN or +inf.
        """
        logits_row = as_logits(logits_row)
        if tuple(logits_row.shape) != (self.vocab_size,):
            raise ValueError(
                f"logits_row must have shape ({self.vocab_size},), got {tuple(logits_row.shape)}; "
                "pass the row of one position"
            )
        self._check_all_scored()
        p, reader = probabilities(logits_row)
        evidence, hints = self._observer.peek()
        q = self.cache.distribution
        return self._experts.distribution(p, q, evidence, reader.lookup(hints.tokens), hints)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What the experts learned, by name; still in use.

        The rest of the state is made of the tokens alone: a new mixer that learns the same tokens,
        and to which `load_state_dict` gives this, goes on with the same bits. `save` keeps both.
        """
        self._check_all_scored()
        return self._experts.state()

    def load_state_dict(self, experience: dict[str, NDArray[Any]]) -> None:
        """Let the experts go on with what others learned; ValueError unless they can have."""
        self._check_all_scored()
        self._experts.restore(experience)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file; the old one or the new one is there, whatever happens.

        ValueError if observed tokens are not priced yet.
        """
        self._check_all_scored()
        values, cache = self.cache._state()
        parts = {"cache": cache, "hints": self._observer.proposer.state_dict()}
        parts["experts"] = self._experts.state()
        snapshot.write(Path(path), values | {"experts": self.experts}, snapshot.join(parts))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, n_threads: int = 1) -> Self:
        """Mixer that goes on where the saved one stood, to the bit.

        Raises
        ------
        SnapshotError
            If the file is missing, no snapshot, of another version, cut short or altered, or if no
            stream can have had the state that it holds.
        """
        check_threads(n_threads)
        with snapshot.opened(Path(path)) as (values, arrays):
            parts = snapshot.split(arrays, ("cache", "hints", "experts"))
            mixer = cls.__new__(cls)
            experts = check_experts(values.pop("experts"))
            mixer._become(
                NgramCache._from_state(values, parts["cache"], n_threads=n_threads), experts
            )
            mixer._observer.proposer.load_state_dict(parts["hints"], position=mixer.position)
            mixer._experts.restore(parts["experts"])
        return mixer
