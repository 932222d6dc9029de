"""Proposer: the few tokens that earlier tokens propose at each position, with their votes.

A hint can come from four kinds of sources: the match model; for contexts of 1 to 8 tokens and a few
longer ones, the most frequent and the latest follower; and for the last token, its latest but one
follower. The latest followers add what frequencies do not show: text repeats what it has just said.
A hint is only a proposal: a wrong one costs bits, but the distribution still sums to 1.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ngrammix import snapshot
from ngrammix.cache.evidence import Evidence, Segment
from ngrammix.cache.pipeline import CHUNK_SIZE
from ngrammix.candidates.match_model import Matches, MatchModel
from ngrammix.kernels import hints as kernel
from ngrammix.types import StateDict, Tokens

N_FOLLOWER_ROWS = 1 << 16  # of the recent followers; larger token ids share rows
MAX_MIN_LENGTH, MAX_TABLE_BITS, MAX_WINDOW = 7, 22, 1 << 26  # of the match model
MIN_WINDOW = 4 * CHUNK_SIZE  # tokens; its half must hold a segment, that is a chunk
LIMIT_SHARE = 16  # stored tokens and slots take at most 1 / LIMIT_SHARE of a memory limit


@dataclass(frozen=True, eq=False)
class Hints:
    """Up to M hints and S votes at each of T positions, from earlier tokens alone.

    Attributes
    ----------
    tokens : (T, M) int64
        Distinct hints, longest context first; -1 after the last.
    sources : (T, M) uint8
        The source that proposed each hint first.
    vote_hints : (T, S) uint8
        Index of the hint that each vote is for.
    vote_cells : (T, S) uint16
        Source and confidence of each vote, as one index.
    n_votes : (T,) uint8
        Number of votes; 0 where no context of a token or more has followers.
    previous : (T + 1,) int64
        The token before each position, -1 at the beginning; then the last token learned.
    """

    tokens: Tokens
    sources: NDArray[np.uint8]
    vote_hints: NDArray[np.uint8]
    vote_cells: NDArray[np.uint16]
    n_votes: NDArray[np.uint8]
    previous: Tokens

    @classmethod
    def allocate(cls, n_tokens: int) -> Self:
        """Uninitialized hints of `n_tokens` positions."""
        return cls(
            np.empty((n_tokens, kernel.MAX_HINTS), np.int64),
            np.empty((n_tokens, kernel.MAX_HINTS), np.uint8),
            np.empty((n_tokens, kernel.MAX_VOTES), np.uint8),
            np.empty((n_tokens, kernel.MAX_VOTES), np.uint16),
            np.empty(n_tokens, np.uint8),
            np.full(n_tokens + 1, kernel.NONE, np.int64),
        )

    def __len__(self) -> int:
        """Return T, the number of positions."""
        return len(self.n_votes)


class Proposer:
    """The sources of hints: the match model, and the latest followers of each token.

    All token ids are checked already.

    Parameters
    ----------
    vocab_size : int >= 1
        V.
    order : int
        Order of the cache whose evidence is passed.
    memory_limit : int or None
        Bytes. The stored tokens and the slots take at most 1/16 of it, or the least that works.
    """

    def __init__(self, vocab_size: int, order: int, memory_limit: int | None) -> None:
        limit = MAX_WINDOW if memory_limit is None else memory_limit // LIMIT_SHARE // 8
        window = min(max(1 << max(limit, 1).bit_length() - 1, MIN_WINDOW), MAX_WINDOW)
        self._matches = MatchModel(
            vocab_size=vocab_size,
            min_length=min(max(order, 2), MAX_MIN_LENGTH),
            table_bits=min(window.bit_length() - 1, MAX_TABLE_BITS),
            window=window,
        )
        self._recent_followers = np.full((N_FOLLOWER_ROWS, 2), kernel.NONE, np.int32)
        self._previous = kernel.NONE

    @property
    def matches(self) -> MatchModel:
        """The match model; read it only."""
        return self._matches

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens, the slots and the recent followers."""
        return self._matches.nbytes + self._recent_followers.nbytes

    def observe(self, tokens: Tokens, evidence: Evidence) -> Hints:
        """Hints at each position of tokens (T,), from their evidence; then they are learned."""
        hints = Hints.allocate(len(tokens))
        for segment in evidence._segments:
            part = tokens[segment.place]
            self._propose(part, segment, self._matches._observe(part), hints)
        return hints

    def peek(self, evidence: Evidence) -> Hints:
        """Hints at the next position, from what `NgramCache.peek` returns."""
        hints = Hints.allocate(1)
        (segment,) = evidence._segments
        self._propose(np.empty(0, np.int64), segment, self._matches.peek(), hints)
        return hints

    def learn(self, tokens: Tokens) -> None:
        """Learn tokens (T,) without hints."""
        self._matches._learn(tokens)
        kernel.add_followers(tokens, self._previous, self._recent_followers)
        self._previous = int(tokens[-1])

    def boundary(self) -> None:
        """Begin a new document: matches do not reach back over this point."""
        self._matches.boundary()

    def state_dict(self) -> StateDict:
        """Arrays that the next hints depend on, by name; still in use."""
        return self._matches.state_dict() | {
            "recent": self._recent_followers,
            "previous": np.array([self._previous]),
        }

    def load_state_dict(self, state: StateDict, *, position: int) -> None:
        """Continue after `position` tokens from what `state_dict` of an equal proposer returned.

        ValueError unless such a proposer can have this state.
        """
        previous = np.empty(1, np.int64)
        own: StateDict = {"recent": self._recent_followers, "previous": previous}
        snapshot.load_arrays(own, {name: state.pop(name) for name in own})
        self._matches.load_state_dict(state, position=position)
        for tokens in own.values():
            if tokens.min() < kernel.NONE or tokens.max() >= self._matches.vocab_size:
                raise ValueError("a recent token is out of range")
        self._previous = int(previous[0])

    def _propose(self, tokens: Tokens, segment: Segment, matches: Matches, hints: Hints) -> None:
        """Write the hints of a segment, whose tokens (T,) were just stored; none for `peek`."""
        place = segment.place
        previous = hints.previous[place.start : place.stop + 1]
        previous[0] = self._previous
        kernel.propose(
            tokens, segment.entries, segment.starts, segment.depth, matches._columns,
            self._matches.history, self._matches.position - len(tokens), self._recent_followers,
            previous,
            hints.tokens[place], hints.sources[place], hints.vote_hints[place],
            hints.vote_cells[place], hints.n_votes[place],
        )  # fmt: skip
        self._previous = int(previous[len(tokens)])
