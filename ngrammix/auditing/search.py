"""Search: where the probabilities of a scorer sum to more than 1, found by bets on random streams.

A distribution that is fixed before its token is drawn cannot give the token that comes more than
its share, on average: if x is drawn from q, the mean of p(x) / q(x) is the sum of p, which is at
most 1 for a legal scorer. So one call with n random tokens tests n sums. A bet puts a share of a
stake on this ratio: it multiplies the stake by 1 + share (p(x) / q(x) - 1). By Ville's inequality a
legal scorer makes a stake grow to 1e9 times its size with a probability of at most 1e-9 (J. Ville,
1939; G. Shafer, Testing by betting, 2021).
"""

from dataclasses import dataclass

import numpy as np

from ngrammix.auditing.streams import Proposal
from ngrammix.types import Floats, Tokens

SHARES = np.array([0.02, 0.1, 0.5])  # of a stake; the mean over them is a bet too
CERTAIN = 1e9  # winnings that a legal scorer makes once in as many audits


@dataclass(frozen=True)
class Suspect:
    """A place where a distribution may sum to more than 1.

    Attributes
    ----------
    stream : (t + 1,) int64
        The prefix, and the token whose probability was too high.
    alphabet : tuple of int
        The tokens that the stream is made of.
    """

    stream: Tokens
    alphabet: tuple[int, ...]


class Bets:
    """Winnings of bets against a scorer, at each position and over whole streams.

    Parameters
    ----------
    n_positions : int
        Length of the streams.
    slack : float
        What rounding can add to the sum of a distribution.
    """

    def __init__(self, n_positions: int, slack: float) -> None:
        self._slack = np.log1p(slack)
        self._at = np.zeros((len(SHARES), n_positions))  # log winnings, streams one after another
        self._over_all = np.zeros(len(SHARES))
        self._ratios: list[Floats] = []
        self._streams: list[tuple[Tokens, tuple[int, ...]]] = []

    def __len__(self) -> int:
        """Number of streams."""
        return len(self._streams)

    def add(self, proposal: Proposal, stream: Tokens, nats: Floats) -> None:
        """Bet on the scores (n,) of a stream that was drawn from the proposal."""
        log_ratio = -nats - proposal.log_probs(stream) - self._slack
        log_ratio = np.where(np.isnan(log_ratio), -np.inf, np.minimum(log_ratio, 700.0))
        won = np.log1p(SHARES[:, None] * np.expm1(log_ratio))
        self._at += won
        self._over_all += won.sum(axis=1)
        self._ratios.append(log_ratio)
        self._streams.append((stream, proposal.alphabet))

    def winnings(self) -> float:
        """Times the stake: the larger of that over all positions, and the mean of each one's own.

        Twice as much is needed of the larger of two.
        """
        logs = [float(log_mean(self._over_all)), float(log_mean(log_mean(self._at)))]
        return float(np.exp(min(700.0, max(logs)))) / 2

    def suspects(self, n: int) -> list[Suspect]:
        """The N most likely places, best first: of single tokens, and of positions over streams."""
        if not self._streams:
            return []
        each = log_mean(self._at)
        found: dict[tuple[int, int], float] = {}
        ratios = np.stack(self._ratios)
        top = np.argsort(ratios, axis=None)[::-1][:n]
        for flat in top:
            row, t = divmod(int(flat), ratios.shape[1])
            found[row, t] = float(ratios[row, t])
        for t in np.argsort(each)[::-1][:n]:
            row = int(np.argmax(ratios[:, t]))
            found[row, int(t)] = float(ratios[row, t] + max(each[t], 0.0))
        order = sorted(found, key=lambda place: -found[place])
        return [
            Suspect(self._streams[row][0][: t + 1], self._streams[row][1])
            for row, t in order
            if ratios[row, t] > 0
        ]


def log_mean(logs: Floats) -> Floats:
    """Logarithm of the mean over the first axis, of numbers whose logarithms these are."""
    largest = logs.max(axis=0)
    result: Floats = largest + np.log(np.exp(logs - largest).mean(axis=0))
    return result
