"""audit_self: our own cache and mixers as scorers under audit, with every choice of experts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval.types import Floats, Tokens
from ngrammix.auditing.black_box import audit
from ngrammix.auditing.environment import environment
from ngrammix.auditing.merged import merged
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.streams import adversarial
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import check_vocab_size
from ngrammix.experts.choices import CHOICES
from ngrammix.mixer import Mixer
from ngrammix.observed import observed_by

VOCAB_SIZE, N_TOKENS = 64, 512
SPREAD = 2.0  # of the logits of the model, nats
CACHE = "cache alone"
SCORED = 256  # tokens in a call of the mixer: scores do not depend on how a stream is cut


def audit_self(
    tokens: ArrayLike | None = None,
    vocab_size: int = VOCAB_SIZE,
    *,
    choices: Sequence[str] = CHOICES,
    order: int = 7,
    edges: Sequence[int] = (),
    n_positions: int = 4096,
    seed: int = 0,
    budget_seconds: float = 50.0,
) -> AuditReport:
    """The verdict on the n-gram cache alone, and on mixers beside a model with random weights.

    Each is audited as anybody's scorer is: by its scores of whole streams, and by the distributions
    of `Mixer.probs` before each token. The budget is shared among them.

    Parameters
    ----------
    tokens : (N,) int, optional
        The stream. Default: 512 tokens with repeats, runs, rare tokens.
    vocab_size : int
        Number of ids V.
    choices : sequence of str
        Experts of the mixers.
    order : int
        Length of the longest n-gram.
    edges, n_positions, seed, budget_seconds
        As for `audit`; the seconds are those of all audits together.

    Raises
    ------
    ValueError
        If an argument is wrong.
    """
    v = check_vocab_size(vocab_size)
    rng = np.random.default_rng(seed)
    stream = adversarial(v, N_TOKENS, rng) if tokens is None else tokens
    table = rng.normal(0.0, SPREAD, (v, v))
    steppers: dict[str, Callable[[], Any]] = {CACHE: partial(CacheAlone, v, order)}
    for choice in choices:
        steppers[choice] = partial(MixerWithModel, table, order, choice)
    for make in steppers.values():  # compiles: that is no time of a scorer
        make().score(np.zeros(2, np.int64))
    share = budget_seconds / len(steppers)
    reports = {
        name: audit(
            partial(score_new, make), stream, v, stepper=make, edges=edges,
            n_positions=n_positions, seed=seed, budget_seconds=share,
        )
        for name, make in steppers.items()
    }  # fmt: skip
    kept = ("tokens", "vocab_size", "seed", "n_positions")
    first = reports[CACHE].conditions
    conditions = {
        **{key: first[key] for key in kept}, "budget_seconds": budget_seconds, "order": order,
        "mixers": ", ".join(choices), **environment(),
    }  # fmt: skip
    return merged("ngrammix: the cache, and the mixers beside a model", reports, conditions)


def score_new(make: Callable[[], Any], tokens: Tokens) -> Floats:
    """Scores (n,) of a stream by a new scorer."""
    scores: Floats = make().score(tokens)
    return scores


class CacheAlone:
    """The cache: the distribution of the next token, and what a stream costs."""

    def __init__(self, vocab_size: int, order: int) -> None:
        self._cache = NgramCache(vocab_size=vocab_size, order=order)

    def probs(self) -> Floats:
        """(V,) probabilities of the next token."""
        return self._cache.distribution()

    def commit(self, token: int) -> float:
        """Learn the next token; returns its cost in nats."""
        return float(self.score(np.array([token]))[0])

    def score(self, tokens: Tokens) -> Floats:
        """(n,) nats of the next tokens."""
        return observed_by(self._cache, tokens).nats_cache(self._cache.vocab_size)


class MixerWithModel:
    """A mixer beside a model whose logits depend on the token before, by a table (V, V)."""

    def __init__(self, table: Floats, order: int, experts: str) -> None:
        self._table, self._before = table, 0
        self._mixer = Mixer(
            vocab_size=len(table), order=order, experts=experts, check_overlaps=False
        )

    def probs(self) -> Floats:
        """(V,) probabilities of the next token."""
        return self._mixer.probs(self._table[self._before])

    def commit(self, token: int) -> float:
        """Learn the next token; returns its cost in nats."""
        return float(self.score(np.array([token]))[0])

    def score(self, tokens: Tokens) -> Floats:
        """(n,) nats of the next tokens."""
        before = np.concatenate([[self._before], tokens[:-1]])
        self._before = int(tokens[-1])
        parts = range(0, len(tokens), SCORED)
        return np.concatenate(
            [self._mixer.score(self._table[before[i : i + SCORED]], tokens[i : i + SCORED])
             for i in parts]
        )  # fmt: skip
