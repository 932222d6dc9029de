"""RankMixer: one mixture over ranks of torch.distributed that each forward a part of the stream.

What the cache knows depends on tokens alone, so every rank observes the stream up to its own
targets and reduces its logits to a few numbers a target. Rank 0 then prices these numbers in the
order of the stream, with all that the experts learn, and returns the costs to where they belong.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ngrammix.checks import as_integers, as_tokens
from ngrammix.eager import eager
from ngrammix.exclusive import Guard, exclusive
from ngrammix.kernels.hints import MAX_HINTS
from ngrammix.logits import as_logits_and_targets, read_logits, scored_rows, to_numpy
from ngrammix.losses import as_positions
from ngrammix.mixer import BLOCK, Mixer
from ngrammix.model_logprobs import N_NUMBERS, pack, unpack
from ngrammix.observed import Observed
from ngrammix.peers import Peers
from ngrammix.types import Floats, Tokens

Part = tuple[int, int, int]  # first position, position after the last, rank


@eager
@exclusive("_guard")
class RankMixer:
    """Costs of a stream under the mixture, where each rank has the logits of some of its tokens.

    For an evaluation loop under torchrun in which each rank scores its own part of the data. The
    costs are those of one `Mixer` in one process that is given the same logits, to the bit. Ranks
    may have different numbers of targets, in parts or in turn. Without an initialized process group
    it is the only rank. A rank holds up to 72 bytes for each of its targets.

    Parameters
    ----------
    tokens : (T,) int
        All targets of the stream, the same on every rank.
    documents : (D,) int
        Positions at which documents begin: no context extends across them.
    group : torch.distributed.ProcessGroup, optional
        The ranks, by gloo or NCCL. Default: all.
    **options
        Arguments of `Mixer`: vocab_size, order, ...

    Raises
    ------
    ValueError
        If tokens or documents are invalid, or an option is.

    Examples
    --------
    >>> tokens = np.array([0, 1, 0, 1, 0, 1])
    >>> ranks = RankMixer(tokens, vocab_size=4, order=3)
    >>> ranks.add(np.zeros((6, 4)), tokens, positions=0)
    >>> ranks.score().round(2)  # on all ranks, once each has added its own targets
    array([1.39, 1.39, 1.39, 1.13, 0.78, 0.5 ])
    """

    def __init__(
        self, tokens: ArrayLike, *, documents: ArrayLike = (), group: Any = None, **options: Any
    ) -> None:
        self._guard = Guard()
        self._options = options | {"check_overlaps": False}  # every position is checked
        self._ahead = Mixer(**self._options)  # never scores: it observes for the hints
        self._tokens = as_tokens(to_numpy(tokens), self._ahead.vocab_size)
        self._documents = as_documents(documents, len(self._tokens))
        self._peers = Peers(group)
        self._runs: list[list[int]] = []  # [first position, position after the last]
        self._packed: list[Floats] = []

    def add(
        self, logits: Any, targets: ArrayLike, *, positions: ArrayLike, ignore_index: int = -100
    ) -> None:
        """Take the logits of targets of this rank.

        Parameters
        ----------
        logits, targets, ignore_index
            As in `Mixer.cross_entropy`.
        positions : int or (...) int
            Position in the stream of each target, or of the first one. They increase from target to
            target and from call to call.

        Raises
        ------
        ValueError
            As `Mixer.score`, and if a position is out of order or beyond the stream, or a target is
            not the token there. Nothing is taken then.
        """
        rows, ids = as_logits_and_targets(logits, targets, self._ahead.vocab_size)
        is_scored = ids != ignore_index
        at = as_positions(positions, is_scored)[is_scored]
        if len(at) == 0:
            return
        self._check(at, ids[is_scored])
        index = np.flatnonzero(is_scored)
        rows = scored_rows(rows, index)
        allowed = self._options.get("allow_probabilities", False)
        reader = read_logits(rows, self._tokens[at], index, allow_probabilities=allowed)
        cuts = [0, *(np.flatnonzero(np.diff(at) != 1) + 1).tolist(), len(at)]
        for first, last in pairwise(cuts):
            start, stop = int(at[first]), int(at[last - 1]) + 1
            for _ in self._observe(self._ahead, self._ahead.position, start, with_hints=False):
                pass
            for observed in self._observe(self._ahead, start, stop):
                block = slice(first, first := first + len(observed))
                self._packed.append(pack(reader.lookup(observed.hint_tokens, block)))
            if self._runs and self._runs[-1][1] == start:
                self._runs[-1][1] = stop
            else:
                self._runs.append([start, stop])

    def score(self) -> Floats:
        """Cost of each target that this rank added, in nats; every rank must call it.

        Returns
        -------
        (N,) float64, nats
            In the order in which they were added, without those that were ignored.

        Raises
        ------
        ValueError
            If ranks have other tokens or options, a position of the stream was added by none or by
            two of them, or a rank is gone. All ranks raise it.
        """
        messages = self._exchange_runs()
        packed = np.concatenate([np.empty((0, self._width)), *self._packed])
        if self._peers.rank == 0:
            return self._price(messages, packed)
        sent = 0
        for start, stop, rank in messages:
            if rank == self._peers.rank:
                self._peers.send(packed[sent : sent + stop - start], 0)
                sent += stop - start
        return self._peers.receive((sent,), 0)

    def _price(self, messages: Sequence[Part], packed: Floats) -> Floats:
        """Price all targets in the order of the stream, and send each rank its costs; on rank 0."""
        mixer, used = Mixer(**self._options), 0
        nats: list[list[Floats]] = [[np.empty(0)] for _ in range(self._peers.size)]
        for start, stop, rank in messages:
            if rank == 0:
                numbers, used = packed[used : used + stop - start], used + stop - start
            else:
                numbers = self._peers.receive((stop - start, self._width), rank)
            logprobs, row = unpack(numbers), 0
            for observed in self._observe(mixer, start, stop):
                block = slice(row, row := row + len(observed))
                nats[rank].append(mixer.score_observed(observed, logprobs[block]).nats)
        for rank in range(1, self._peers.size):
            self._peers.send(np.concatenate(nats[rank]), rank)
        return np.concatenate(nats[0])

    @property
    def _width(self) -> int:
        """Numbers that a rank keeps for a target."""
        return N_NUMBERS + (MAX_HINTS if self._ahead._experts.needs_hints else 0)

    def _observe(
        self, mixer: Mixer, start: int, stop: int, *, with_hints: bool = True
    ) -> Iterator[Observed]:
        """Tokens start..stop, observed by a mixer that has observed those before."""
        with_hints = with_hints and mixer._experts.needs_hints
        inside = self._documents[(self._documents > start) & (self._documents < stop)].tolist()
        if start < stop and np.isin(start, self._documents):
            mixer.boundary()
        for first, last in pairwise([start, *inside, stop]):
            if first > start:
                mixer.boundary()
            for block in range(first, last, BLOCK):
                tokens = self._tokens[block : min(block + BLOCK, last)]
                yield mixer._observe(tokens, with_hints=with_hints)

    def _check(self, at: Tokens, targets: Tokens) -> None:
        """Raise ValueError unless targets (N,) are the tokens at increasing positions (N,)."""
        position = self._ahead.position
        before = np.concatenate([[position - 1], at[:-1]])
        if (wrong := at <= before).any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"positions of a rank must increase, got {at[i]} after {before[i]}; add its "
                "windows in the order of the stream, and only the new targets of each"
            )
        if at[-1] >= len(self._tokens):
            raise ValueError(
                f"positions must be below the {len(self._tokens)} tokens of the stream, got "
                f"{at[-1]}; pass all targets as tokens"
            )
        if (wrong := self._tokens[at] != targets).any():
            i = int(np.argmax(wrong))
            raise ValueError(
                f"targets must be the tokens of the stream, got {targets[i]} at position {at[i]}, "
                f"where it has {self._tokens[at[i]]}; pass the targets, not the inputs, as tokens, "
                "and the position of the first target"
            )

    def _exchange_runs(self) -> list[Part]:
        """Parts of all ranks, in the order of the stream; ValueError if they do not make it up."""
        digest = blake2b(self._tokens.tobytes() + self._documents.tobytes(), digest_size=16)
        options = repr(sorted(self._options.items()))
        answers = self._peers.gather((digest.hexdigest(), options, self._runs))
        for rank, answer in enumerate(answers):
            for i, name in enumerate(("tokens and documents", "options of the mixer")):
                if answer[i] != answers[0][i]:
                    raise ValueError(
                        f"ranks must have the same {name}, got others on rank {rank} than on rank "
                        "0; pass the whole stream and the same options on every rank"
                    )
        runs = sorted((*run, rank) for rank, answer in enumerate(answers) for run in answer[2])
        n_tokens, position, last = len(self._tokens), 0, 0
        for start, stop, rank in [*runs, (n_tokens, n_tokens, 0)]:
            if start < position:
                raise ValueError(
                    f"each position must be added by one rank, got {start} from rank {last} and "
                    f"from rank {rank}; give each rank targets of its own"
                )
            if start > position:
                raise ValueError(
                    f"each position must be added by one rank, got none for {position} to "
                    f"{start - 1}; add all windows before score, on every rank"
                )
            position, last = stop, rank
        return [
            (begin, min(begin + BLOCK, stop), rank)
            for start, stop, rank in runs
            for begin in range(start, stop, BLOCK)
        ]


def as_documents(documents: ArrayLike, n_tokens: int) -> Tokens:
    """Starts of documents (D,) as int64; ValueError unless they increase within the stream."""
    starts = as_integers(to_numpy(documents), "documents", "positions")
    edges = np.concatenate([[-1], starts.reshape(-1), [n_tokens]])
    if starts.ndim != 1 or (np.diff(edges) < 1).any():
        raise ValueError(
            f"documents must be increasing positions below {n_tokens}, got {starts.tolist()[:9]}; "
            "pass the position of the first target of each document"
        )
    return starts
