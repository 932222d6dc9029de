"""Mixer: the cache's evidence and the model's probabilities, mixed into nats."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.checks import as_nats, check_capacity, check_ids
from ngrammix.logits import LogitsReader, SavedReader, read_logits, to_numpy
from ngrammix.losses import as_pair, as_targets, check_positions, check_reduction, reduce
from ngrammix.mixed_stream import MixedStream
from ngrammix.token_scores import TokenScores

BLOCK = 1 << 16  # tokens whose evidence is held at a time: 12 MB at order 7

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


class Mixer(MixedStream):
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
        rows, ids = as_pair(logits, targets, self.vocab_size)
        nats = np.zeros(ids.shape)
        is_scored = ids != ignore_index
        nats[is_scored] = self._trace(rows, ids, is_scored).nats
        return nats

    def trace(self, logits: Any, targets: ArrayLike, *, ignore_index: int = -100) -> TokenScores:
        """Score as `score` does, and say what each token cost with and without the cache.

        Takes and raises what `score` does.

        Returns
        -------
        TokenScores
            Of the scored positions alone, in C order.
        """
        rows, ids = as_pair(logits, targets, self.vocab_size)
        return self._trace(rows, ids, ids != ignore_index)

    def _trace(self, logits: Any, targets: Tokens, is_scored: NDArray[np.bool_]) -> TokenScores:
        """Logits (..., V) and targets (...), of which those with `is_scored` (...) are scored."""
        places = np.flatnonzero(is_scored)
        tokens = targets.reshape(-1)[places]
        check_ids(tokens, self.vocab_size, "targets", places)
        rows = logits.reshape(-1, self.vocab_size)
        reader = read_logits(rows if len(places) == len(rows) else rows[places], tokens, places)
        return self._mix(tokens, reader, asks_hints=self._experts.needs_hints)

    def cross_entropy(
        self,
        logits: Any,
        targets: ArrayLike,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        positions: ArrayLike | None = None,
    ) -> Any:
        """Loss in nats, in the place of ``torch.nn.functional.cross_entropy`` in an eval loop.

        Parameters
        ----------
        logits, targets, ignore_index
            As in `score`, shapes (N, V) and (N,), or (B, T, V) and (B, T): the classes come last.
        reduction : {"mean", "none", "sum"}
            The mean is over the targets that are not ignored.
        positions : int or (...) int, optional
            Place of each target in the stream, or of the first one: then a target that was scored
            before, or comes out of order, is an error. `position` says which place is next.

        Returns
        -------
        (...) or () of the kind, dtype and device of logits, nats
            Rounded once, from float64; it has no gradient. `score` leaves out the rounding.

        Raises
        ------
        ValueError
            As `score`; and if reduction or positions are wrong. Nothing is scored or learned then.
        """
        check_reduction(reduction)
        rows, ids = as_pair(logits, targets, self.vocab_size)
        is_scored = ids != ignore_index
        if positions is not None:
            check_positions(positions, is_scored, self.position)
        nats = self.score(rows, ids, ignore_index=ignore_index)
        return reduce(nats, is_scored, reduction, rows)

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
        reader = SavedReader(log_p, spread)
        nats[ids != ignore_index] = self._mix(tokens, reader, asks_hints=False).nats
        return nats

    def _mix(self, tokens: Tokens, reader: LogitsReader, *, asks_hints: bool) -> TokenScores:
        """Price tokens (T,), of which the model was read, block by block; each is then learned."""
        self._check_all_scored()
        check_capacity(self.position, len(tokens))
        trace = TokenScores(
            np.empty(len(tokens)), np.empty(len(tokens)), np.empty(len(tokens), np.int64)
        )
        for start in range(0, len(tokens), BLOCK):
            block = slice(start, start + BLOCK)
            observed = self._observer.observe(tokens[block], asks_hints=asks_hints)
            priced = self.score_observed(observed, reader.lookup(observed.hint_tokens, block))
            trace.nats[block] = priced.nats
            trace.nats_model[block] = priced.nats_model
            trace.matched_order[block] = priced.matched_order
        return trace
