"""Mixer: tokens scored under the mixture of a language model and an n-gram cache.

The distribution of the token at position t depends on the tokens before t alone. With p the model's
distribution and q the cache's, it is (docs/explanation/mixer.md)

    tilt    r'_j = sigmoid(slope_j logit r_j + weights_j)                   (1)
            p'(h_j) = r'_j (1 - r'_1) ... (1 - r'_(j-1))                    (2)
            p'(a) = p(a) (1 - r'_1) ... (1 - r'_m) / R_(m+1), other a       (3)
    gate    p'' = (1 - w) p' + w q                                          (4)
    guard   P = v p + (1 - v) p''                                           (5)

where h_1, ..., h_m are the hints, R_j is the model's mass beside the first j - 1 of them, and
r_j = p(h_j) / R_j; w is learned in each cell of contexts; v is the posterior of the model. Tilt,
gate and guard each map distributions that sum to 1 to another one. The experts learn from a token
after it is scored.
"""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ngrammix import snapshot
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.proposer import Proposer
from ngrammix.checks import (
    NotCopyable,
    as_nats,
    as_tokens,
    check_capacity,
    check_flag,
    check_ids,
    check_threads,
)
from ngrammix.eager import eager
from ngrammix.exclusive import Guard, exclusive
from ngrammix.experts.chain import Experts
from ngrammix.experts.choices import ALL, check_experts
from ngrammix.logits import (
    LogitsReader,
    SavedReader,
    as_logits_and_targets,
    as_logits_row,
    as_targets,
    check_no_probabilities,
    probabilities,
    read_logits,
    scored_rows,
    to_numpy,
)
from ngrammix.losses import check_positions, check_reduction, named_arguments, reduce
from ngrammix.model_logprobs import ModelLogprobs, check_logprobs
from ngrammix.observed import Observed, check_all_scored
from ngrammix.overlaps import OverlapWatch, row_sizes
from ngrammix.shifts import ShiftWatch
from ngrammix.token_scores import TokenScores
from ngrammix.types import Flags, Floats, StateDict, Tokens

BLOCK = 1 << 16  # tokens whose evidence is in memory at once: 9 MB at order 7, of bytes 14 MB
LEARNED = ("score_observed", "state_dict", "regret_bits", "bound_bits")  # may run beside `observe`


@eager
@exclusive(
    "_cache._guard", "_guard", of={"_cache._guard": ("observe", "boundary"), "_guard": LEARNED},
    midway=LEARNED[2:], free=("vocab_size", "order", "experts", "cache", "position", "nbytes"),
)  # fmt: skip
class Mixer(NotCopyable):
    """Mixture of a language model and an n-gram cache that learns the tokens as it scores them.

    Each token is scored under one distribution over the vocabulary (`probs` returns it). It sums to
    1 and depends on the model's logits and the tokens before; the cache learns the token after it
    is scored. The total cost of the stream exceeds the model's by at most `bound_bits`, for any
    data. The scores do not depend on how the stream is cut into calls. One thread at a time: a call
    in a second one is a ValueError, and changes nothing. Only `observe` and `boundary` can run in
    one thread while another is in `score_observed` or reads `regret_bits`.

    Parameters
    ----------
    vocab_size : int >= 1
        V, the width of the logits.
    order : int in 1..64
        Length of the longest n-gram, the predicted token included.
    memory_limit : int or str, optional
        Upper bound of the cache's tables, in bytes or as text such as ``"2GiB"``: see `NgramCache`.
        The stored stream and the match model's slots take a 16th of it, or 256 KiB, on top.
    n_threads : 1 or 2
        Number of threads that observe tokens. The scores are the same to the bit.
    experts : str
        Which experts the mixture has: "tilt+gate+guard" or a subset in this order. "switch" instead
        of "guard" recovers sooner where the cache has long been worse than the model; its bound is
        larger. Without either there is no bound.
    allow_probabilities : bool
        Take rows that are >= 0 and sum to 1 for logits. By default a call in which all rows are
        such is refused: its logits have been through a softmax already.
    check_overlaps : bool
        Warn once, by an `OverlapWarning`, if targets repeat earlier ones as only windows that
        overlap do, or a second evaluation. It never changes a score.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> mixer = Mixer(vocab_size=4, order=3)
    >>> logits = np.zeros((6, 4))  # a uniform model: log(4) nats for each token
    >>> mixer.score(logits, [0, 1, 0, 1, 0, 1]).round(2)
    array([1.39, 1.39, 1.39, 1.13, 0.78, 0.5 ])
    >>> mixer.regret_bits <= mixer.bound_bits
    True
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        order: int = 7,
        memory_limit: int | str | None = None,
        n_threads: int = 1,
        experts: str = ALL,
        allow_probabilities: bool = False,
        check_overlaps: bool = True,
    ) -> None:
        check_experts(experts)
        self._guard = Guard()
        self._allow_probabilities = check_flag(allow_probabilities, "allow_probabilities")
        self._cache = NgramCache(
            vocab_size=vocab_size, order=order, memory_limit=memory_limit, n_threads=n_threads
        )
        self._proposer = Proposer(self.vocab_size, self.order, self._cache.memory_limit)
        self._experts = Experts(experts, self.order, self.vocab_size)
        self._shifts = ShiftWatch()
        self._overlaps = OverlapWatch(self._proposer.matches, is_on=check_overlaps)
        self._n_scored = 0  # tokens that were scored or learned: fewer than were observed

    @property
    def vocab_size(self) -> int:
        """V: the width of the logits."""
        return self._cache.vocab_size

    @property
    def order(self) -> int:
        """Length of the longest n-gram, the predicted token included."""
        return self._cache.order

    @property
    def experts(self) -> str:
        """Names of the experts, joined by "+"."""
        return self._experts.names

    @property
    def cache(self) -> NgramCache:
        """The n-gram cache; read it only: the mixer itself feeds it the stream."""
        return self._cache

    @property
    def position(self) -> int:
        """Number of tokens that were scored, observed or learned."""
        return self._cache.position

    @property
    def regret_bits(self) -> float:
        """Bits of the scored tokens minus the model's own bits; negative where the cache helped."""
        return self._experts.guard.regret_bits

    @property
    def bound_bits(self) -> float:
        """Upper bound of `regret_bits`, for any data."""
        return self._experts.guard.bound_bits

    @property
    def nbytes(self) -> int:
        """Bytes of the cache's tables, of the match model and of the learned weights."""
        return self._cache.nbytes + self._proposer.nbytes + self._experts.nbytes

    def __repr__(self) -> str:
        return f"Mixer(vocab_size={self.vocab_size}, order={self.order}): {self.cache!r}"

    def score(self, logits: Any, targets: ArrayLike, *, ignore_index: int = -100) -> Floats:
        """Cost of each target in nats; the cache learns each target after it is scored.

        Parameters
        ----------
        logits : (..., V) float, numpy or torch on any device
            Unnormalized; NaN and +inf raise an error, -inf is a probability of 0.
        targets : (...) int
            The next tokens of the stream, in C order.
        ignore_index : int
            Targets with this value are neither scored nor learned and cost 0.0, as in torch.

        Returns
        -------
        (...) float64, nats
            Divide the sum by ``log(2) * n_bytes`` for bits per byte.

        Raises
        ------
        ValueError
            If the shapes differ, a target is not an integer in [0, V), a logit is NaN or +inf, the
            model gives a target the probability 0, or the logits are probabilities. Nothing is
            scored or learned then.
        """
        return self.trace(logits, targets, ignore_index=ignore_index).nats

    def trace(self, logits: Any, targets: ArrayLike, *, ignore_index: int = -100) -> TokenScores:
        """Cost of each target under the mixture and under the model; otherwise as `score`."""
        rows, ids = as_logits_and_targets(logits, targets, self.vocab_size)
        return self._score_logits(rows, ids, ids != ignore_index)

    def cross_entropy(
        self,
        logits: Any = None,
        targets: Any = None,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        positions: ArrayLike | None = None,
        **torch_names: Any,
    ) -> Any:
        """Loss in nats: a drop-in for ``torch.nn.functional.cross_entropy`` in an eval loop.

        Parameters
        ----------
        logits, targets, ignore_index
            As in `score`, of shapes (N, V) and (N,), or (B, T, V) and (B, T): the last axis is V.
        reduction : {"mean", "none", "sum"}
            The mean is over the targets that are not ignored.
        positions : int or (...) int, optional
            Position in the stream of each target, or of the first one. If given, a target that was
            scored before or is out of order raises an error. `position` is the next one.
        **torch_names
            ``input`` and ``target`` are torch's names for logits and targets. Its ``weight`` and
            ``label_smoothing`` are refused.

        Returns
        -------
        (...) or () of the type, dtype and device of logits, nats
            Rounded once, from float64. It has no gradient. `score` returns float64.

        Raises
        ------
        ValueError
            As `score`, and if `reduction` or `positions` are wrong. Nothing is scored or learned
            then.
        """
        check_reduction(reduction)
        logits, targets = named_arguments(logits, targets, torch_names)
        rows, ids = as_logits_and_targets(logits, targets, self.vocab_size)
        is_scored = ids != ignore_index
        if positions is not None:
            check_positions(positions, is_scored, self.position)
        nats = self._score_logits(rows, ids, is_scored, is_new=positions is not None).nats
        return reduce(nats, is_scored, reduction, rows)

    def score_nll(
        self,
        nll: ArrayLike,
        targets: ArrayLike,
        entropy: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
    ) -> Floats:
        """Cost of each target in nats, from the model's saved losses instead of logits.

        The gate needs only the losses, so its result is exact. The tilt needs the model's
        probabilities of other tokens: it is left out.

        Parameters
        ----------
        nll : (...) float, nats
            The model's negative log-probability of each target.
        targets : (...) int
            The next tokens of the stream, in C order.
        entropy : (...) float, nats, optional
            Entropy of the model's distribution at each position, which the gate conditions on.
        ignore_index : int
            Targets with this value are neither scored nor learned and cost 0.0.

        Raises
        ------
        ValueError
            If the shapes differ, a target is not an integer in [0, V), or the nll or entropy of a
            scored target is negative, NaN or infinite. Nothing is scored or learned then.
        """
        ids = as_targets(targets)
        positions = np.flatnonzero(ids != ignore_index)
        tokens = ids.reshape(-1)[positions]
        log_p = 0.0 - as_nats(to_numpy(nll), "nll", ids.shape, positions)
        entropies = np.full(len(tokens), np.nan)
        if entropy is not None:
            entropies = as_nats(to_numpy(entropy), "entropy", ids.shape, positions)
        check_ids(tokens, self.vocab_size, "targets", positions)
        reader = SavedReader(log_p, entropies)
        return self._score(tokens, positions, ids.shape, reader, with_hints=False).nats

    def observe(self, tokens: ArrayLike) -> Observed:
        """Evidence and hints before each token; the cache then learns the tokens.

        The half of `trace` that needs no logits: it can run ahead of the model's forward pass (see
        `prefetch`), or in a process without the model. `score_observed` is the other half.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream. Each takes about 300 bytes until it is scored.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or there are none. Nothing is learned then.
        """
        ids = as_tokens(to_numpy(tokens), self.vocab_size)
        observed = self._observe(ids, with_hints=self._experts.needs_hints)
        self._overlaps.note(observed.position, [len(ids)], is_flat=True)
        return observed

    def score_observed(self, observed: Observed, logprobs: ModelLogprobs) -> TokenScores:
        """Cost of each observed token, (T,); the experts then learn from the tokens.

        Parameters
        ----------
        observed : Observed
            What `observe` returned. Score each batch once, in the order of the stream.
        logprobs : ModelLogprobs
            ``read_logits(logits, observed.tokens, positions).lookup(observed.hint_tokens)``.

        Raises
        ------
        ValueError
            If another batch is the next one to score, the shapes differ, or a log-probability is
            NaN, positive, or that of a target with the probability 0. Nothing is learned then.
        """
        check_logprobs(logprobs, observed, self._n_scored)
        with self._guard.changing():
            log_mixed = self._experts.mix(observed, logprobs)
            self._n_scored += len(observed)
        return TokenScores(  # 0.0 - x: a certain token costs 0.0, not -0.0
            0.0 - log_mixed, 0.0 - logprobs.log_p, observed.evidence.matched_order
        )

    def learn(self, tokens: ArrayLike) -> None:
        """Learn tokens without scoring them: a context, or a prefill.

        Parameters
        ----------
        tokens : (T,) int, T >= 1
            The next tokens of the stream.

        Raises
        ------
        ValueError
            If tokens are not 1-D integers in [0, V), or there are none. Nothing is learned then.
        """
        ids = as_tokens(to_numpy(tokens), self.vocab_size)
        check_all_scored(self._n_scored, self.position)
        check_capacity(self.position, len(ids))
        with self._cache._guard.changing():
            self._cache._learn(ids)
            self._proposer.learn(ids)
            self._n_scored = self.position

    def boundary(self) -> None:
        """Start a new document: no context or match extends across this point."""
        self._cache.boundary()
        self._proposer.boundary()
        self._overlaps.boundary(self.position)

    def probs(self, logits_row: Any) -> Floats:
        """Probability of every token at the next position: (V,) float64, sum 1.

        Parameters
        ----------
        logits_row : (V,) float, numpy or torch on any device
            Unnormalized logits of the next position of the stream.

        Raises
        ------
        ValueError
            If the shape is not (V,), a logit is NaN or +inf, all are -inf, or the logits are
            probabilities.
        """
        logits_row = as_logits_row(logits_row, self.vocab_size)
        check_all_scored(self._n_scored, self.position)
        p, reader = probabilities(logits_row)
        if not self._allow_probabilities:
            check_no_probabilities(logits_row[None], np.array([self.position]))
        evidence = self._cache.peek()
        hints = self._proposer.peek(evidence)
        logprobs = reader.lookup(hints.tokens)
        return self._experts.distribution(p, self._cache.distribution, evidence, logprobs, hints)

    def state_dict(self) -> StateDict:
        """Learned weights of the experts, by name; not copied.

        The rest of the state follows from the tokens: a new mixer that learns the tokens that were
        scored and then loads this state continues to the bit. Tokens that were only observed are no
        part of it. `save` writes both to a file.
        """
        return self._experts.state_dict()

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Copy learned weights into the experts; ValueError if they do not fit."""
        check_all_scored(self._n_scored, self.position)
        self._experts.load_state_dict(state_dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one file, atomically; ValueError if observed tokens are not scored."""
        check_all_scored(self._n_scored, self.position)
        values, arrays = self._cache._state()
        parts = {"cache": arrays, "hints": self._proposer.state_dict()}
        parts["experts"] = self._experts.state_dict()
        snapshot.write(Path(path), values | {"experts": self.experts}, snapshot.join(parts))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        n_threads: int = 1,
        allow_probabilities: bool = False,
    ) -> Self:
        """Mixer that continues to the bit where the saved one stopped.

        Raises
        ------
        SnapshotError
            If the file is missing, not a snapshot, of another version, truncated or altered, or if
            no stream can have led to the state in it.
        """
        check_threads(n_threads)
        with snapshot.opened(Path(path)) as (values, arrays):
            parts = snapshot.split(arrays, ("cache", "hints", "experts"))
            mixer = cls(
                vocab_size=values["vocab_size"],
                order=values["order"],
                memory_limit=values["memory_limit"],
                experts=values.pop("experts"),
                allow_probabilities=allow_probabilities,
            )
            mixer._cache = NgramCache._from_state(values, parts["cache"], n_threads=n_threads)
            mixer._proposer.load_state_dict(parts["hints"], position=mixer.position)
            mixer._experts.load_state_dict(parts["experts"])
            mixer._n_scored = mixer.position
        return mixer

    def _score_logits(
        self, logits: Any, targets: Tokens, is_scored: Flags, *, is_new: bool = False
    ) -> TokenScores:
        """Score the targets (...) with `is_scored` (...), from logits (..., V)."""
        positions = np.flatnonzero(is_scored)
        tokens = targets.reshape(-1)[positions]
        check_ids(tokens, self.vocab_size, "targets", positions)
        rows = scored_rows(logits, positions)
        allowed = self._allow_probabilities
        reader = read_logits(rows, tokens, positions, allow_probabilities=allowed)
        with_hints = self._experts.needs_hints
        shape = targets.shape
        self._shifts.note(reader, tokens)
        return self._score(tokens, positions, shape, reader, with_hints=with_hints, is_new=is_new)

    def _score(
        self,
        tokens: Tokens,
        positions: Tokens,
        shape: tuple[int, ...],
        reader: LogitsReader,
        *,
        with_hints: bool,
        is_new: bool = False,
    ) -> TokenScores:
        """Scores of `shape`, of valid tokens (N,) that belong at the flat `positions` (N,).

        is_new: they are known to be scored for the first time.
        """
        check_all_scored(self._n_scored, self.position)
        check_capacity(self.position, len(tokens))
        scores, begin = TokenScores.zeros(shape), self.position
        for start in range(0, len(tokens), BLOCK):
            block = slice(start, start + BLOCK)
            observed = self._observe(tokens[block], with_hints=with_hints)
            logprobs = reader.lookup(observed.hint_tokens, block)
            scores.put(positions[block], self.score_observed(observed, logprobs))
        if not is_new:
            self._overlaps.note(begin, row_sizes(shape, positions), is_flat=len(shape) < 2)
        return scores

    def _observe(self, tokens: Tokens, *, with_hints: bool) -> Observed:
        """`observe` for valid ids."""
        position = self.position
        check_capacity(position, len(tokens))
        with self._cache._guard.changing():
            evidence = self._cache._observe(tokens)
            hints = self._proposer.observe(tokens, evidence) if with_hints else None
            if hints is None:
                self._proposer.learn(tokens)
        return Observed(position, tokens, evidence, hints)
