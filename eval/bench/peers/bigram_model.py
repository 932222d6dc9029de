"""A model that is free to run: smoothed bigram counts of the stream that is scored."""

import numpy as np
from numpy.typing import NDArray

from ngrammix.model_logprobs import ModelLogprobs

SMOOTHING = 20.0  # weight of the unigram distribution, in tokens

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


class Bigram:
    """p(a | b) = (c(b, a) + s p(a)) / (n(b) + s) with p(a) = (c(a) + 1) / (T + V).

    For measurements of speed: it is counted on the tokens that it predicts, so that its
    probabilities are about those of a real model. Memory grows with V and T, not with V T.

    Parameters
    ----------
    tokens : (T,) int64, T >= 1
        The stream, ids in [0, V); token 0 stands before it.
    vocab_size : int
        V.
    """

    def __init__(self, tokens: Tokens, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.previous: Tokens = np.concatenate([[0], tokens[:-1]])
        unigrams = np.bincount(tokens, minlength=vocab_size) + 1.0
        unigrams /= unigrams.sum()
        self._mass = SMOOTHING * unigrams  # of each token, added to its counts
        self._codes, self._counts = np.unique(
            self.previous * vocab_size + tokens, return_counts=True
        )
        before, after = np.divmod(self._codes, vocab_size)
        self._total = np.bincount(before, self._counts, vocab_size) + SMOOTHING

        # Entropy: of a context without counts, then corrected for the tokens counted after it.
        rest = SMOOTHING / self._total
        self._entropy = -rest * (np.sum(unigrams * np.log(unigrams)) + np.log(rest))
        p = (self._counts + self._mass[after]) / self._total[before]
        uncounted = self._mass[after] / self._total[before]
        terms = uncounted * np.log(uncounted) - p * np.log(p)
        self._entropy += np.bincount(before, terms, vocab_size)

        # Top: the best of the tokens counted after the context, or the best unigram.
        contexts = np.arange(vocab_size)
        before = np.concatenate([before, contexts])
        after = np.concatenate([after, np.full(vocab_size, unigrams.argmax())])
        best_first = np.lexsort((after, -self.log_p(before, after), before))
        self._top: Tokens = after[best_first][np.searchsorted(before[best_first], contexts)]

    def log_p(self, previous: Tokens, tokens: Tokens) -> Floats:
        """(...) nats: log-probability of each of tokens (...) after each of previous (...)."""
        codes = previous * self.vocab_size + tokens
        rows = np.minimum(np.searchsorted(self._codes, codes), len(self._codes) - 1)
        counts = np.where(self._codes[rows] == codes, self._counts[rows], 0)
        log_p: Floats = np.log(counts + self._mass[tokens]) - np.log(self._total[previous])
        return log_p

    def lookup(self, previous: Tokens, targets: Tokens, hints: Tokens) -> ModelLogprobs:
        """Log-probabilities after previous (N,) of targets (N,) and hints (N, M), -1 for none."""
        top = self._top[previous]
        log_hints = self.log_p(previous[:, None], np.maximum(hints, 0))
        return ModelLogprobs(
            log_p=self.log_p(previous, targets),
            entropy=self._entropy[previous],
            top=top,
            log_top=self.log_p(previous, top),
            log_hints=np.where(hints < 0, -np.inf, log_hints),
        )

    def logits(self, previous: Tokens) -> Floats:
        """(N, V) nats: distributions after previous (N,); memory grows with N V."""
        return self.log_p(previous[:, None], np.arange(self.vocab_size)[None])
