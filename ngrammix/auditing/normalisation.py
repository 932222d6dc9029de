"""Normalisation (C2): after a prefix, the probabilities of all tokens sum to 1."""

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np

from ngrammix.auditing.report import Check, smallest_share
from ngrammix.auditing.search import CERTAIN, Bets, Suspect
from ngrammix.auditing.session import Session, shortest, shown
from ngrammix.auditing.single_pass import is_constant, is_same
from ngrammix.auditing.streams import proposals
from ngrammix.auditing.witness import Witness
from ngrammix.types import Floats, Tokens

OF_FEW, OF_BETS, OF_SUMS = 0.4, 0.3, 0.9  # of the time that is left when each begins
LENGTH = 1100  # tokens of a random stream: each chunk of up to 1,024 tokens has its edge there
STREAMS, FEWEST = 400, 16  # random streams, at most and at least
SUSPECTS = 40  # places where a sum is tried, after the bets
LOWEST = 24  # places of the stream whose scores are lowest, where a sum is tried
SUBSET, OF_SUBSET = 64, 0.05  # tokens of a sum over a subset, if they take less of the time left
OF_BITS = 1e-6  # what 2^-score may miss a sum of 1 by
ENOUGH = 2  # whole sums without which no verdict is given


def check_bets(session: Session) -> None:
    """A finding if random streams show a distribution that sums to more than 1."""
    clock, rng, began = session.clock, session.rng("bets"), session.clock.calls
    drawing, until = clock.until(OF_BETS / 2), clock.until(OF_BETS)
    length = min(LENGTH, len(session.tokens))
    bets = Bets(length, session.rounding.of_sum(np.zeros(0)))
    n_streams = min(STREAMS, max(FEWEST, session.n_positions // 8))
    drawn = proposals(session.vocab_size, n_streams, rng)
    streams = (proposal.draw(length, rng) for proposal in drawn)
    for proposal, (stream, nats) in zip(drawn, session.score_until(streams, drawing), strict=False):
        bets.add(proposal, stream, nats)
    for suspect in bets.suspects(SUSPECTS):
        if clock.used() > until or session.has("C2", "sum"):
            break
        try_suspect(session, suspect)
    # A scorer that knows later tokens wins too; that is C1.
    if bets.winnings() > CERTAIN and not session.has("C2", "sum") and not session.has("C1"):
        tell_bets(session, bets)
    session.checks.append(
        Check("C2", "bets on random streams against a sum above 1", len(bets) * length,
              calls=clock.calls - began, note=f"{len(bets):,} streams of {length:,} tokens")
    )  # fmt: skip


def try_suspect(session: Session, suspect: Suspect) -> None:
    """A finding if the tokens of a suspect's alphabet have more than all of the probability."""
    prefix, token = suspect.stream[:-1], int(suspect.stream[-1])
    near = dict.fromkeys([token, *map(int, prefix[-SUBSET:]), *suspect.alphabet])
    try_subset(session, prefix, list(near)[:SUBSET])


def check_lowest(session: Session, nats: Floats) -> None:
    """A finding where the stream is cheapest, if other tokens would have been as cheap."""
    common = np.argsort(-np.bincount(session.tokens, minlength=1))[:SUBSET]
    tried, rng, began = 0, session.rng("lowest"), session.clock.calls
    lowest = map(int, np.argsort(nats, kind="stable")[:LOWEST])
    for t in dict.fromkeys([*session.suspects[:LOWEST], *lowest]):
        if session.has("C2", "sum") or session.clock.left() <= 0:
            break
        others = rng.integers(session.vocab_size, size=8)
        near = [int(session.tokens[t]), *map(int, session.tokens[max(0, t - 8) : t])]
        tokens = list(dict.fromkeys([*near, *map(int, others), *map(int, common)]))
        try_subset(session, session.tokens[:t], tokens[:SUBSET])
        tried += 1
    calls = session.clock.calls - began
    name = "other tokens where the stream is cheapest"
    session.checks.append(Check("C2", name, tried, calls=calls))


def try_subset(session: Session, prefix: Tokens, tokens: Sequence[int]) -> bool:
    """Whether some of the tokens have more than all of the probability; then there is a finding."""
    cost = session.clock.cost(len(prefix) + 1)
    n = len(tokens) if cost * len(tokens) < session.clock.share(OF_SUBSET) else 8
    nats = charges(session, prefix, tokens[:n])
    few = fewest(session, nats)
    if few is None:
        return False
    chosen = [tokens[i] for i in few]
    if not is_steady(session, prefix, chosen, nats[few]):
        return False

    def shows(ending: Tokens) -> bool:
        return fewest(session, charges(session, ending, chosen)) is not None

    short = shortest(prefix, 0, shows, session.clock)
    nats = charges(session, short, chosen)
    if fewest(session, nats) is None:  # of the whole prefix alone
        short, nats = prefix, charges(session, prefix, chosen)
    tell_sum(session, short, chosen, nats)
    return True


def fewest(session: Session, nats: Floats) -> list[int] | None:
    """Indices of the fewest scores whose probabilities sum to more than 1; None if none do."""
    order = np.argsort(np.where(np.isnan(nats), np.inf, nats), kind="stable")
    above = np.cumsum(np.exp(-nats[order])) > 1 + session.rounding.of_sum(nats)
    return [int(i) for i in order[: int(np.argmax(above)) + 1]] if above.any() else None


def charges(session: Session, prefix: Tokens, tokens: Sequence[int]) -> Floats:
    """(n,) nats: what each token costs after the prefix; fewer if the time is up."""
    streams = (np.append(prefix, token) for token in tokens)
    until = max(session.clock.end, session.clock.used() + 1e-3)
    return np.array([nats[-1] for _, nats in session.score_until(streams, until)])


def check_few_sums(session: Session) -> None:
    """Short prefixes summed, before anything takes the time for it: three where contexts repeat."""
    until = session.clock.until(OF_FEW)
    a, b, c = np.resize(np.unique(session.tokens)[::-1], 3)
    for prefix in ([a, b, a], [], [a, a, a], [a, b, c, a, b]):
        prefix = prefix[: len(session.tokens) - 1]  # no stream is longer than the one given
        if not try_sum(session, np.array(prefix, np.int64), until):
            break


def check_sums(session: Session) -> None:
    """A finding if all probabilities after a prefix do not sum to 1."""
    until = session.clock.until(OF_SUMS)
    for prefix in prefixes(session):
        if session.has("C2") or session.clock.used() > until:
            break
        if len(session.sums) >= session.n_positions:
            break
        try_sum(session, prefix, until)
    add_check(session)


def add_check(session: Session) -> None:
    """Say how many sums were taken."""
    n, v = len(session.sums), session.vocab_size
    note = f"one sum takes {v:,} calls; raise budget_seconds, or pass probs_fn"
    if n:
        note = f"prefixes of {min(session.sums):,} to {max(session.sums):,} tokens"
    session.checks.append(
        Check("C2", "probabilities of the whole vocabulary summed", n, "sums", v * n,
              smallest_share(n), note,
              is_enough=session.has("C2") or n >= ENOUGH)
    )  # fmt: skip


def try_sum(session: Session, prefix: Tokens, until: float) -> bool:
    """Whether there was time to sum the vocabulary after a prefix; a wrong sum is a finding."""
    v = session.vocab_size
    if v * session.clock.cost(len(prefix) + 1) > until - session.clock.used():
        return False
    nats = charges(session, prefix, range(v))
    if len(nats) < v:
        return False
    session.sums.append(len(prefix))
    is_wrong = abs(sum_of(nats) - 1) > session.rounding.of_sum(nats)
    if is_wrong and is_steady(session, prefix, range(v), nats):
        tell_whole(session, prefix, nats)
    return True


def is_steady(session: Session, prefix: Tokens, tokens: Sequence[int], nats: Floats) -> bool:
    """Whether tokens cost the same once more; else there is a finding of C4."""
    again = charges(session, prefix, tokens)
    streams = [np.append(prefix, token) for token in tokens]
    return all(
        is_same(session, stream, np.array([first]), np.array([second]))
        for stream, first, second in zip(streams, nats, again, strict=False)
    ) and is_constant(session, streams[best := int(np.argmin(nats))], nats[best : best + 1])


def sum_of(nats: Floats) -> float:
    """The sum of the probabilities of scores; NaN counts as none."""
    return float(np.exp(-np.where(np.isnan(nats), np.inf, nats)).sum())


def prefixes(session: Session) -> Iterator[Tokens]:
    """Prefixes of all kinds: of the stream, of its middle, and random ones; short ones mostly."""
    tokens, n = session.tokens, len(session.tokens)
    rng = session.rng("sums")
    fixed = [*(e for e in session.edges if e < n), min(64, n - 1), n - 1, n // 2]
    yield from (tokens[:t] for t in dict.fromkeys(fixed))
    alphabets = proposals(session.vocab_size, session.n_positions, rng)
    ends = last_tokens(session)
    for i in range(session.n_positions):
        length = int(min(n - 1, 2.0 ** rng.uniform(1, 7)))
        if i % 16 == 15:
            length = int(rng.integers(n))
        if i % 2:
            start = int(rng.integers(n - length))
            prefix = tokens[start : start + length]
        else:
            prefix = alphabets[i // 2].draw(max(length, 1), rng)
        if i % 8 == 0:
            prefix = np.append(prefix, next(ends))
        elif i % 4 > 1:  # its end has stood in it before
            start = int(rng.integers(max(1, length)))
            prefix = np.append(prefix, prefix[start : start + int(rng.integers(1, 9))])
        yield prefix[max(0, len(prefix) - n + 1) :]  # no stream is longer than the one given


def last_tokens(session: Session) -> Iterator[int]:
    """The token before a sum: ids that often mark a start or an end, then common and rare ones."""
    v = session.vocab_size
    count = np.bincount(session.tokens, minlength=v)
    common, rare = np.argsort(-count, kind="stable"), np.argsort(count, kind="stable")
    mixed = np.stack([common, rare], axis=1).ravel().tolist()
    return cycle(dict.fromkeys([0, v - 1, 1, 2, 3 % v, *mixed]))


def tell_whole(session: Session, prefix: Tokens, nats: Floats) -> None:
    """The finding of a whole sum, with the shortest prefix that shows it."""
    v, wrong = session.vocab_size, {}

    def shows(ending: Tokens) -> bool:
        each = charges(session, ending, range(v))
        is_wrong = len(each) == v and abs(sum_of(each) - 1) > session.rounding.of_sum(each)
        if is_wrong:
            wrong[len(ending)] = each
        return is_wrong

    short = shortest(prefix, 0, shows, session.clock)
    tell_sum(session, short, (), wrong.get(len(short), nats))


def tell_sum(session: Session, prefix: Tokens, tokens: Sequence[int], nats: Floats) -> None:
    """The finding of probabilities (n,) that do not sum to 1."""
    p = np.exp(-nats)
    total = float(p.sum())
    who = f"{len(tokens):,} of the {session.vocab_size:,} tokens" if tokens else "all tokens"
    if bool((np.abs(nats) < 1e-9).all()):
        why = f"{'tokens are' if tokens else 'every token is'} free here"
    elif not tokens and abs(sum_of(nats * np.log(2)) - 1) < OF_BITS:
        why = "the scores are bits; multiply them by ln 2"
    elif total > 1:
        why = (
            "the table is not normalised over the vocabulary, or the score of a token depends on "
            "the token itself: it is a key, opens a gate, chooses, or was learned before (C3)"
        )
    else:
        why = "some of it goes to no token, or the score of a token depends on the token itself"
    session.find(
        "C2",
        len(prefix),
        Witness(
            "sum", (1.0, total), "probability", shown(prefix), position=len(prefix),
            tokens=tuple(map(int, tokens)),
        ),
        f"the probabilities of the next token must sum to 1, got {total:.6g} for {who} after "
        f"{len(prefix)} tokens: {why}",
    )  # fmt: skip


def tell_bets(session: Session, bets: Bets) -> None:
    """The finding of bets that no distribution could lose."""
    suspect = bets.suspects(1)[0]
    odds = bets.winnings()
    session.find(
        "C2",
        len(suspect.stream) - 1,
        Witness(
            "bets", (1.0, odds), "probability", shown(suspect.stream),
            position=len(suspect.stream) - 1, tokens=suspect.alphabet,
        ),
        f"tokens that are drawn at random cannot be foreseen, but bets on {len(bets):,} streams "
        f"won {odds:.3g} times their stake; the largest share of it at position "
        f"{len(suspect.stream) - 1}: the score of a token depends on the token itself",
    )  # fmt: skip
