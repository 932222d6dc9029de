"""Mixer: the cache's evidence and the model's probabilities, mixed into nats."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.backoff import BESIDE_MODEL, log_target_probability
from ngrammix.cache import NgramCache
from ngrammix.checks import NotCopyable, as_integers, check_ids, check_room
from ngrammix.gate import NO_CELL, Gate
from ngrammix.guard import Guard
from ngrammix.logits import as_logits, gather, probabilities, to_numpy

BLOCK = 1 << 16  # tokens whose evidence is held at a time: 12 MB at order 7

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Trace:
    """What each of N tokens cost, and what it would have cost.

    Attributes
    ----------
    nats, nats_model : (N,) float64, nats
        Cost under the mixture, and under the model alone.
    matched_order : (N,) int64
        Length of the longest n-gram that could answer, the predicted token included.
    """

    nats: Floats
    nats_model: Floats
    matched_order: Tokens


class Mixer(NotCopyable):
    """Score a model's tokens with an n-gram cache beside it that learns the stream as it goes.

    Each token is priced from the model's logits and from the tokens before it; only then does the
    cache learn it. The price is that of one distribution over the vocabulary, which sums to 1 and
    was fixed before the token was seen (`probs` shows it). Over the whole stream, the total is at
    most the model's own plus `bound_bits`, for any data. One call or many: the same numbers, where
    the model gives the same logits. One thread at a time.

    Parameters
    ----------
    vocab_size : int >= 1
        V, the width of the logits.
    order : int in 1..32
        Length of the longest n-gram, the predicted token included.
    memory_limit : int or str, optional
        Bytes, or text such as ``"2GiB"``, that the cache's tables never exceed: see `NgramCache`.
    n_threads : 1 or 2
        How many threads walk the cache in a call of many tokens. The bits are the same.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> mixer = Mixer(vocab_size=4, order=3)
    >>> logits = np.zeros((6, 4))  # a model that knows nothing: log(4) nats a token
    >>> mixer.score(logits, [0, 1, 0, 1, 0, 1]).round(2)
    array([1.39, 1.39, 1.39, 1.28, 1.15, 1.01])
    >>> mixer.regret_bits <= mixer.bound_bits
    True
    """

    def __init__(
        self,
        vocab_size: int,
        order: int = 7,
        *,
        memory_limit: int | str | None = None,
        n_threads: int = 1,
    ) -> None:
        self._cache = NgramCache(
            order=order, vocab_size=vocab_size, memory_limit=memory_limit, n_threads=n_threads
        )
        self._gate = Gate(self._cache.order)
        self._guard = Guard()

    @property
    def vocab_size(self) -> int:
        """V: the width of the logits."""
        return self._cache.vocab_size

    @property
    def order(self) -> int:
        """Length of the longest n-gram, the predicted token included."""
        return self._cache.order

    @property
    def regret_bits(self) -> float:
        """Bits spent so far minus the model's own; negative where the cache helped."""
        return self._guard.regret_bits

    @property
    def bound_bits(self) -> float:
        """What `regret_bits` cannot exceed, for any data."""
        return self._guard.bound_bits

    @property
    def nbytes(self) -> int:
        """Bytes of the cache's tables and of the learned weights."""
        return self._cache.nbytes + self._gate.nbytes

    @property
    def cache_stats(self) -> dict[str, Any]:
        """What the cache holds and what it forgot: `NgramCache.stats`."""
        return self._cache.stats()

    @property
    def experts(self) -> str:
        """What the mixture is made of, for the signature of a score."""
        return "backoff+gate+guard"

    def __repr__(self) -> str:
        return f"Mixer(vocab_size={self.vocab_size}, order={self.order}): {self._cache!r}"

    def score(self, logits: Any, targets: ArrayLike, *, ignore_index: int = -100) -> Floats:
        """Cost of each target in nats; each is priced first and learned after.

        Parameters
        ----------
        logits : (..., V) float, numpy or torch on any device
            Unnormalised; NaN and +inf are refused, -inf is a probability of 0.
        targets : (...) int
            The next tokens of the stream, in C order.
        ignore_index : int
            Positions with this target are neither scored nor learned and cost 0.0, as in torch.

        Returns
        -------
        (...) float64, nats
            Divide the sum by ``log(2) * n_bytes`` for bits per byte.

        Raises
        ------
        ValueError
            If the shapes differ, a target is no integer in [0, V), a logit is NaN or +inf, or the
            model gives a target no probability. Nothing is scored or learned then.
        """
        rows, ids = self._checked(logits, targets)
        nats = np.zeros(ids.shape)
        is_scored = ids != ignore_index
        nats[is_scored] = self._trace(rows, ids, is_scored).nats
        return nats

    def trace(self, logits: Any, targets: ArrayLike, *, ignore_index: int = -100) -> Trace:
        """Score as `score` does, and say what each token cost with and without the cache.

        Takes and raises what `score` does.

        Returns
        -------
        Trace
            Of the scored positions alone, in C order.
        """
        rows, ids = self._checked(logits, targets)
        return self._trace(rows, ids, ids != ignore_index)

    def _trace(self, logits: Any, targets: Tokens, is_scored: NDArray[np.bool_]) -> Trace:
        """Logits (..., V) and targets (...), of which those with `is_scored` (...) are scored."""
        places = np.flatnonzero(is_scored)
        tokens = targets.reshape(-1)[places]
        check_ids(tokens, self.vocab_size, "targets", places)
        rows = logits.reshape(-1, self.vocab_size)
        model = gather(rows if len(places) == len(rows) else rows[places], tokens, places)
        check_room(self._cache.position, len(tokens))

        trace = Trace(np.empty(len(tokens)), np.empty(len(tokens)), np.empty(len(tokens), np.int64))
        for start in range(0, len(tokens), BLOCK):
            block = slice(start, start + BLOCK)
            evidence = self._cache.observe(tokens[block])
            log_p = model.log_p[block]
            log_q = log_target_probability(evidence, self.vocab_size, BESIDE_MODEL)
            cells = self._gate.cells(evidence, model.entropy[block])
            log_mixed = self._guard.mix(log_p, self._gate.mix(log_p, log_q, cells))
            trace.nats[block] = 0.0 - log_mixed  # not -0.0 for a sure token
            trace.nats_model[block] = 0.0 - log_p
            trace.matched_order[block] = evidence.matched_order
        return trace

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
        self._cache.learn(to_numpy(tokens))

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        self._cache.boundary()

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
        p, entropy = probabilities(logits_row)
        cell = int(self._gate.cells(self._cache.peek(), entropy)[0])
        if cell == NO_CELL:  # no evidence, no change
            return p
        w = self._gate.weight(cell)
        inside = (1 - w) * p + w * self._cache.distribution(discount=BESIDE_MODEL)
        trust, rest = self._guard.weights
        return trust * p + rest * inside

    def _checked(self, logits: Any, targets: ArrayLike) -> tuple[Any, Tokens]:
        """Logits (..., V) as tensor or array and targets (...) as int64, or ValueError."""
        ids = as_integers(to_numpy(targets), "targets")
        logits = as_logits(logits)
        if ids.size == 0:
            raise ValueError("targets must hold at least one token, got none; skip empty batches")
        shape = (*ids.shape, self.vocab_size)
        if tuple(logits.shape) != shape:
            raise ValueError(
                f"logits must have shape {shape}, that of targets and then vocab_size, "
                f"got {tuple(logits.shape)}; make vocab_size the width of the model's output"
            )
        return logits, ids
