"""The hints of a position in plain Python."""

from typing import NamedTuple

from ngrammix.reference.cache import ReferenceCache
from ngrammix.reference.match import ReferenceMatch


class Vote(NamedTuple):
    """Who names a token, and what is known of who names it."""

    token: int
    speaker: str
    known: tuple[int, ...]


class ReferenceHints:
    """Proposer, word for word."""

    MOST, LONGEST = 5, 8  # hints; tokens of the longest context with a say

    def __init__(self, order: int) -> None:
        self.match = ReferenceMatch(min(max(order, 2), 7), 22, 1 << 26)
        self.recent: dict[int, list[int]] = {}  # token -> its latest two different followers

    def votes(self, cache: ReferenceCache) -> list[Vote]:
        """Return the votes at the next position for the hints that are heard, in their order."""
        votes = []
        evidence = cache.evidence(None)[: self.LONGEST + 1]
        contexts = [k for k, row in enumerate(evidence) if k > 0 and row.followers > 0]
        length, token, distance = self.match.match()
        if contexts and length > 0:
            known = min(length.bit_length(), 7), min(distance.bit_length() // 2, 15)
            votes.append(Vote(token, "match", known))
        for k in reversed(contexts):
            row = evidence[k]
            latest = self.match.tokens[cache.position - row.age] if row.age > 0 else -1
            agree = int(row.hint == latest)
            share = 8 * row.hint_count // (row.followers + 1)
            known_count = min(row.followers.bit_length(), 7)
            votes.append(Vote(row.hint, f"frequent {k}", (share, known_count, agree)))
            if latest >= 0:
                since, variety = min(row.age.bit_length(), 23), min(row.distinct, 4)
                votes.append(Vote(latest, f"latest {k}", (since, variety, agree)))
            followers = self.recent.get(self.match.tokens[-1], []) if k == 1 else []
            if len(followers) == 2:
                known = min(row.distinct, 8), int(followers[1] == row.hint)
                votes.append(Vote(followers[1], "runner-up", known))
        heard = list(dict.fromkeys(vote.token for vote in votes))[: self.MOST]
        return [vote for vote in votes if vote.token in heard]

    def learn(self, token: int) -> None:
        """Learn the next token of the stream."""
        if self.match.tokens:
            followers = self.recent.setdefault(self.match.tokens[-1], [])
            if followers[:1] != [token]:
                followers[:] = [token, *followers[:1]]
        self.match.learn(token)
