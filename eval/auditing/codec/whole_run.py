"""What `score` charges for a stream: whole windows at once, not token by token."""

import numpy as np

from eval.auditing.codec.token_stream import TokenStream, windows_of
from eval.models.base import Model
from eval.models.logits_memory import last_logits
from eval.scoring.forward import naming
from eval.scoring.windows import WindowShape
from eval.types import Floats
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.logits import read_logits
from ngrammix.mixer import Mixer
from ngrammix.observed import observed_by


def charge_of_cache(cache: NgramCache, stream: TokenStream, n_tokens: int) -> Floats:
    """Nats (n_tokens,) of the first tokens under the cache alone, a document at a time."""
    parts = []
    for document in np.split(stream.tokens[:n_tokens], np.cumsum(stream.layout.lengths)[:-1]):
        if len(document):
            cache.boundary()
            parts.append(observed_by(cache, document).nats_cache(cache.vocab_size))
    return np.concatenate(parts)


def charge_of_model(
    model: Model,
    mixer: Mixer | None,
    stream: TokenStream,
    n_tokens: int,
    shape: WindowShape,
    *,
    allow_probabilities: bool,
) -> Floats:
    """Nats (n_tokens,) of the first tokens under model and cache, or under the model alone."""
    parts, n_done = [], 0
    for window in windows_of(stream, shape):
        if n_done >= n_tokens:
            break
        targets = window.piece.tokens
        rows = last_logits(model, window.inputs[None], len(targets))[0]
        positions = n_done + np.arange(len(targets))
        with naming(model):
            reader = read_logits(rows, targets, positions, allow_probabilities=allow_probabilities)
        if mixer is None:
            parts.append(0.0 - reader.lookup().log_p)
        else:
            if window.piece.is_context_start:
                mixer.boundary()
            observed = mixer.observe(targets)
            logprobs = reader.lookup(observed.hint_tokens)
            parts.append(mixer.score_observed(observed, logprobs).nats)
        n_done += len(targets)
    return np.concatenate(parts)[:n_tokens]
