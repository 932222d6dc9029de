"""Proposer in plain Python: the hints of a position and their votes."""

from bisect import bisect_left
from typing import NamedTuple

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.match import ReferenceMatch


class Vote(NamedTuple):
    """The vote of one source for one token, and the confidence of the source in coarse steps."""

    token: int
    source: str
    confidence: tuple[int, ...]


class ReferenceHints:
    """The specification of `Proposer`."""

    MAX_HINTS = 5
    LONGEST = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 63)  # tokens, of each class of contexts

    def __init__(self, order: int) -> None:
        self.match = ReferenceMatch(min(max(order, 2), 7), 22, 1 << 26)
        self.recent_followers: dict[int, list[int]] = {}  # token -> two latest distinct followers

    def votes(self, cache: ReferenceCache) -> list[Vote]:
        """Return the votes for the hints of the next position, longest context first."""
        votes = []
        evidence = cache.evidence(None)
        contexts = [k for k, row in enumerate(evidence) if k > 0 and row.followers > 0]
        length, token, distance = self.match.match()
        if contexts and length > 0:
            confidence = min(length.bit_length(), 7), min(distance.bit_length() // 2, 15)
            votes.append(Vote(token, "match", confidence))
        for k in reversed(contexts):
            if k not in self.LONGEST and k != contexts[-1]:
                continue
            row, context = evidence[k], bisect_left(self.LONGEST, k) + 1  # its class
            latest = self.match.tokens[cache.position - row.age] if row.age > 0 else -1
            agree = int(row.hint == latest)
            share = 8 * row.hint_count // (row.followers + 1)
            n_bits = min(row.followers.bit_length(), 7)
            votes.append(Vote(row.hint, f"frequent {context}", (share, n_bits, agree)))
            if latest >= 0:
                since, variety = min(row.age.bit_length(), 23), min(row.n_distinct, 4)
                votes.append(Vote(latest, f"latest {context}", (since, variety, agree)))
            followers = self.recent_followers.get(self.match.tokens[-1], []) if k == 1 else []
            if len(followers) == 2:
                confidence = min(row.n_distinct, 8), int(followers[1] == row.hint)
                votes.append(Vote(followers[1], "runner-up", confidence))
        hints = list(dict.fromkeys(vote.token for vote in votes))[: self.MAX_HINTS]
        return [vote for vote in votes if vote.token in hints]

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        if self.match.tokens:
            followers = self.recent_followers.setdefault(self.match.tokens[-1], [])
            if followers[:1] != [token]:
                followers[:] = [token, *followers[:1]]
        self.match.learn(token)
