"""Hints: the few tokens that the strict prefix proposes at each position, with their advocates.

Five sources name a token: the match model, and for each context of 1 to 8 tokens its most frequent
follower and its latest one; after the last token also the latest but one. The latest followers are
what frequencies cannot tell: text repeats what it has just said. A hint is only ever a proposal: a
wrong one costs bits, never a distribution that does not sum to 1.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ngrammix import snapshot
from ngrammix.cache.evidence import Evidence
from ngrammix.candidates.match_model import Matches, MatchModel
from ngrammix.kernels import hints as kernel
from ngrammix.types import StateDict, Tokens

ROWS = 1 << 16  # of the recent followers; tokens beyond share a row, which may mislead a hint
MIN_MATCH, MAX_MATCH_BITS, MAX_WINDOW = 7, 22, 1 << 26
PIECE = 1 << 14  # tokens at a time: half of the smallest window must hold them
MIN_WINDOW = 2 * PIECE
SHARE = 16  # of a memory limit, that the stored tokens and the match model's slots may take


@dataclass(frozen=True, eq=False)
class Hints:
    """Up to M hints at each of T positions, and up to S votes for them.

    All of it depends on the tokens before the position alone.

    Attributes
    ----------
    tokens : (T, M) int64
        Distinct hints, longest context first; -1 for none.
    sources : (T, M) uint8
        Which source named each first.
    vote_hints, vote_cells : (T, S) uint8 and uint16
        For which hint each vote is, and the cell of what is known of who gives it.
    n_votes : (T,) uint8
        How many votes there are; 0 where no context of a token or more is known.
    previous : (T + 1,) int64
        The token before each position, -1 at the beginning; and the last one learned.
    """

    tokens: Tokens
    sources: NDArray[np.uint8]
    vote_hints: NDArray[np.uint8]
    vote_cells: NDArray[np.uint16]
    n_votes: NDArray[np.uint8]
    previous: Tokens

    @classmethod
    def allocate(cls, n_tokens: int) -> Self:
        """Hints with room for `n_tokens`, not yet written."""
        return cls(
            np.empty((n_tokens, kernel.MAX_HINTS), np.int64),
            np.empty((n_tokens, kernel.MAX_HINTS), np.uint8),
            np.empty((n_tokens, kernel.MAX_VOTES), np.uint8),
            np.empty((n_tokens, kernel.MAX_VOTES), np.uint16),
            np.empty(n_tokens, np.uint8),
            np.full(n_tokens + 1, kernel.NONE, np.int64),
        )

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.n_votes)


class Proposer:
    """What names the hints: the stored stream, its matches, and the latest followers of each token.

    Parameters
    ----------
    vocab_size : int >= 1
        V.
    order : int
        Of the cache whose evidence is given.
    memory_limit : int or None
        Bytes, of which the stored tokens and the slots take a 16th at most, or as little as works.
    """

    def __init__(self, vocab_size: int, order: int, memory_limit: int | None) -> None:
        most = MAX_WINDOW if memory_limit is None else memory_limit // SHARE // 8
        window = min(max(1 << max(most, 1).bit_length() - 1, MIN_WINDOW), MAX_WINDOW)
        self._matches = MatchModel(
            vocab_size=vocab_size,
            min_length=min(max(order, 2), MIN_MATCH),
            table_bits=min(window.bit_length() - 1, MAX_MATCH_BITS),
            window=window,
        )
        self._recent = np.full((ROWS, 2), kernel.NONE, np.int32)
        self._previous = kernel.NONE

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens, the slots and the recent followers."""
        return self._matches.nbytes + self._recent.nbytes

    def observe(self, tokens: Tokens, evidence: Evidence) -> Hints:
        """Hints at each position of tokens (T,), which the cache gave evidence of; then learned."""
        hints = Hints.allocate(len(tokens))
        for start in range(0, len(tokens), PIECE):
            piece = slice(start, start + PIECE)
            matches = self._matches._observe(tokens[piece])
            self._propose(tokens[piece], evidence, matches, piece, hints)
        return hints

    def peek(self, evidence: Evidence) -> Hints:
        """Hints at the one position to come, whose evidence `NgramCache.peek` gives."""
        hints = Hints.allocate(1)
        nothing = np.empty(0, np.int64)
        self._propose(nothing, evidence, self._matches.peek(), slice(0, 1), hints)
        return hints

    def learn(self, tokens: Tokens) -> None:
        """Learn tokens (T,) that need no hints."""
        self._matches._learn(tokens)
        kernel.remember_all(tokens, self._previous, self._recent)
        self._previous = int(tokens[-1])

    def boundary(self) -> None:
        """Begin a new document: no match reaches back over this point."""
        self._matches.boundary()

    def state_dict(self) -> StateDict:
        """Everything that the hints to come depend on, by name."""
        return self._matches.state_dict() | {
            "recent": self._recent,
            "previous": np.array([self._previous]),
        }

    def load_state_dict(self, state: StateDict, *, position: int) -> None:
        """Go on after `position` tokens; ValueError unless `state` can be that of such hints."""
        previous = np.empty(1, np.int64)
        snapshot.load_arrays(
            {"recent": self._recent, "previous": previous},
            {name: state.pop(name) for name in ("recent", "previous")},
        )
        self._matches.load_state_dict(state, position=position)
        for tokens in (self._recent, previous):
            if tokens.min() < kernel.NONE or tokens.max() >= self._matches.vocab_size:
                raise ValueError("a recent token is none")
        self._previous = int(previous[0])

    def _propose(
        self, tokens: Tokens, evidence: Evidence, matches: Matches, piece: slice, hints: Hints
    ) -> None:
        """Write the hints of one piece; tokens (T,) were just stored, or there are none."""
        previous = hints.previous[piece.start : piece.stop + 1]
        previous[0] = self._previous
        kernel.propose(
            tokens, evidence.followers[:, piece], evidence.n_distinct[:, piece],
            evidence.hint[:, piece], evidence.hint_count[:, piece], evidence.age[:, piece],
            matches.length, matches.hint, matches.distance,
            self._matches.history, self._matches.position - len(tokens),
            self._recent, previous, hints.tokens[piece], hints.sources[piece],
            hints.vote_hints[piece], hints.vote_cells[piece], hints.n_votes[piece],
        )  # fmt: skip
        self._previous = int(previous[len(tokens)])
