"""Mixer: the cache's evidence and the model's probabilities, mixed into nats."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.cache import NgramCache
from ngrammix.checks import NotCopyable, as_integers, as_nats, as_tokens, check_ids, check_room
from ngrammix.experts import ALL, Experts
from ngrammix.hints import Proposer
from ngrammix.logits import Reading, SavedReading, as_logits, probabilities, read, to_numpy
from ngrammix.trace import Trace

BLOCK = 1 << 16  # tokens whose evidence is held at a time: 12 MB at order 7

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


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
        The stored stream and the match model's slots take a 16th of it more, or 256 KiB.
    n_threads : 1 or 2
        How many threads walk the cache in a call of many tokens. The bits are the same.
    experts : str
        What the mixture is made of: "tilt+gate+guard", or fewer of them in this order; "switch" in
        the guard's place recovers sooner from a bad spell and has a larger bound. Without either
        there is no bound.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> mixer = Mixer(vocab_size=4, order=3)
    >>> logits = np.zeros((6, 4))  # a model that knows nothing: log(4) nats a token
    >>> mixer.score(logits, [0, 1, 0, 1, 0, 1]).round(2)
    array([1.39, 1.39, 1.39, 1.13, 0.78, 0.5 ])
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
        experts: str = ALL,
    ) -> None:
        self._cache = NgramCache(
            order=order, vocab_size=vocab_size, memory_limit=memory_limit, n_threads=n_threads
        )
        self._proposer = Proposer(self.vocab_size, self.order, self._cache.memory_limit)
        self._experts = Experts(experts, self.order, self.vocab_size)

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
        return self._experts.guard.regret_bits

    @property
    def bound_bits(self) -> float:
        """What `regret_bits` cannot exceed, for any data."""
        return self._experts.guard.bound_bits

    @property
    def nbytes(self) -> int:
        """Bytes of the cache's tables, of the hints' and of the learned weights."""
        return self._cache.nbytes + self._proposer.nbytes + self._experts.nbytes

    @property
    def cache_stats(self) -> dict[str, Any]:
        """What the cache holds and what it forgot: `NgramCache.stats`."""
        return self._cache.stats()

    @property
    def experts(self) -> str:
        """What the mixture is made of, for the signature of a score."""
        return self._experts.names

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
        reading = read(rows if len(places) == len(rows) else rows[places], tokens, places)
        return self._mix(tokens, reading, asks_hints=self._experts.needs_hints)

    def score_nll(
        self,
        nll: ArrayLike,
        targets: ArrayLike,
        entropy: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
    ) -> Floats:
        """Cost of each target in nats, from the model's own costs alone: no logits, no model.

        For losses that some other harness left. The gate needs no more than them, and is exact; the
        tilt, which must know the model's probability of other tokens, stands aside.

        Parameters
        ----------
        nll : (...) float, nats
            The model's negative log-probability of each target.
        targets : (...) int
            The next tokens of the stream, in C order.
        entropy : (...) float, nats, optional
            Of the model's distribution at each position: it tells the gate when to trust it.
        ignore_index : int
            Positions with this target are neither scored nor learned and cost 0.0.

        Raises
        ------
        ValueError
            If the shapes differ, a target is no integer in [0, V), or a scored position's nll or
            entropy is negative, NaN or infinite. Nothing is scored or learned then.
        """
        ids = as_targets(targets)
        places = np.flatnonzero(ids != ignore_index)
        tokens = ids.reshape(-1)[places]
        log_p = 0.0 - as_nats(to_numpy(nll), "nll", ids.shape, places)
        spread = np.full(len(tokens), np.nan)
        if entropy is not None:
            spread = as_nats(to_numpy(entropy), "entropy", ids.shape, places)
        check_ids(tokens, self.vocab_size, "targets", places)
        nats = np.zeros(ids.shape)
        reading = SavedReading(log_p, spread)
        nats[ids != ignore_index] = self._mix(tokens, reading, asks_hints=False).nats
        return nats

    def _mix(self, tokens: Tokens, reading: Reading, *, asks_hints: bool) -> Trace:
        """Price tokens (T,), of which the model was read, block by block; each is then learned."""
        check_room(self._cache.position, len(tokens))
        trace = Trace(np.empty(len(tokens)), np.empty(len(tokens)), np.empty(len(tokens), np.int64))
        for start in range(0, len(tokens), BLOCK):
            block = slice(start, start + BLOCK)
            evidence = self._cache.observe(tokens[block])
            if asks_hints:
                hints = self._proposer.observe(tokens[block], evidence)
                model = reading.gather(hints.tokens, block)
                log_mixed = self._experts.mix(tokens[block], model, evidence, hints)
            else:
                self._proposer.learn(tokens[block])
                model = reading.gather(None, block)
                log_mixed = self._experts.mix(tokens[block], model, evidence)
            trace.nats[block] = 0.0 - log_mixed  # not -0.0 for a sure token
            trace.nats_model[block] = 0.0 - model.log_p
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
        ids = as_tokens(to_numpy(tokens), self.vocab_size)
        self._cache.learn(ids)
        self._proposer.learn(ids)

    def boundary(self) -> None:
        """Begin a new document: no context reaches back over this point."""
        self._cache.boundary()
        self._proposer.boundary()

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
        p, reading = probabilities(logits_row)
        evidence = self._cache.peek()
        hints = self._proposer.peek(evidence)
        model = reading.gather(hints.tokens)
        return self._experts.distribution(p, self._cache.distribution, evidence, model, hints)

    def _checked(self, logits: Any, targets: ArrayLike) -> tuple[Any, Tokens]:
        """Logits (..., V) as tensor or array and targets (...) as int64, or ValueError."""
        ids = as_targets(targets)
        logits = as_logits(logits)
        shape = (*ids.shape, self.vocab_size)
        if tuple(logits.shape) != shape:
            raise ValueError(
                f"logits must have shape {shape}, that of targets and then vocab_size, "
                f"got {tuple(logits.shape)}; make vocab_size the width of the model's output"
            )
        return logits, ids


def as_targets(targets: ArrayLike) -> Tokens:
    """Return targets of any shape as int64, or raise ValueError if there are none."""
    ids = as_integers(to_numpy(targets), "targets")
    if ids.size == 0:
        raise ValueError("targets must hold at least one token, got none; skip empty batches")
    return ids
