"""Steppers: scorers that show the distribution of the next token, then take the token.

`ModelStepper` and `CacheStepper` are the scorers of `score`, one token at a time. The logits of a
token come from a forward pass of a batch of one window that ends before the token: the same calls
in the encoder and in the decoder, so their logits are the same bits.
"""

from typing import Any

import numpy as np

from eval.auditing.codec.token_stream import Layout, steps
from eval.models.base import Model
from eval.models.logits_memory import last_logits
from eval.scoring.forward import naming
from eval.scoring.windows import CACHE_WINDOW, WindowShape
from eval.types import Floats
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.logits import probabilities, read_logits
from ngrammix.mixer import Mixer
from ngrammix.observed import observed_by

FIRST = np.zeros(1, np.int64)  # the place of the only row of logits


class ModelStepper:
    """The model, mixed with a cache unless `mixer` is None; in the windows of `score`."""

    def __init__(
        self,
        model: Model,
        mixer: Mixer | None,
        layout: Layout,
        shape: WindowShape,
        *,
        allow_probabilities: bool,
    ) -> None:
        self._model, self._mixer = model, mixer
        self._allowed = allow_probabilities
        self._steps = steps(layout, shape)
        self._known = np.empty(1, np.int64)  # of the document, its lead first; grows by doubling
        self._n_known = 0
        self._logits: Any = None  # (1, V) of the next token

    def probs(self) -> Floats:
        """See `ngrammix.auditing.stepwise.Stepper`."""
        step = next(self._steps)
        if step.lead is not None:
            self._known[0], self._n_known = step.lead, 1
            if self._mixer is not None:
                self._mixer.boundary()
        window = self._known[None, step.first : self._n_known]
        self._logits = last_logits(self._model, window, 1)[0]
        with naming(self._model):
            if self._mixer is not None:
                return self._mixer.probs(self._logits[0])
            return probabilities(self._logits[0])[0]

    def commit(self, token: int) -> float:
        """See `ngrammix.auditing.stepwise.Stepper`; the nats are those of `Mixer.score`."""
        target = np.array([token])
        if self._n_known == len(self._known):
            self._known = np.resize(self._known, 2 * self._n_known)
        self._known[self._n_known] = token
        self._n_known += 1
        with naming(self._model):
            if self._mixer is not None:
                return float(self._mixer.score(self._logits, target)[0])
            reader = read_logits(self._logits, target, FIRST, allow_probabilities=self._allowed)
        return 0.0 - float(reader.lookup().log_p[0])


class CacheStepper:
    """The cache alone."""

    def __init__(self, cache: NgramCache, layout: Layout) -> None:
        self._cache = cache
        self._steps = steps(layout, WindowShape(CACHE_WINDOW, CACHE_WINDOW, None, 1))

    def probs(self) -> Floats:
        """See `ngrammix.auditing.stepwise.Stepper`."""
        if next(self._steps).lead is not None:
            self._cache.boundary()
        return self._cache.distribution()

    def commit(self, token: int) -> float:
        """See `ngrammix.auditing.stepwise.Stepper`; the nats are those of the evidence."""
        observed = observed_by(self._cache, np.array([token]))
        return float(observed.nats_cache(self._cache.vocab_size)[0])
