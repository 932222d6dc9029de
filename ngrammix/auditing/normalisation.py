"""Normalisation (C2): after a prefix, the probabilities of all tokens sum to 1."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from ngrammix.auditing.report import Check, smallest_share
from ngrammix.auditing.scorer import StoppedError
from ngrammix.auditing.search import CERTAIN, Bets, Suspect
from ngrammix.auditing.session import BATCH, Session, shortest, shown
from ngrammix.auditing.streams import proposals
from ngrammix.auditing.witness import Witness
from ngrammix.types import Floats, Tokens

OF_BETS, OF_SUMS = 0.3, 0.7  # shares of the time that is left when each begins
LENGTH = 1100  # tokens of a random stream: each chunk of up to 1,024 tokens has its edge there
STREAMS = 400  # random streams, at most
SUSPECTS = 40  # places where a sum is tried, after the bets
LOWEST = 24  # places of the stream whose scores are lowest, where a sum is tried
SUBSET = 64  # tokens of a sum over a subset
ENOUGH = 3  # whole sums without which no verdict is given


def check_bets(session: Session) -> None:
    """A finding if random streams show a distribution that sums to more than 1."""
    clock, rng = session.clock, session.rng("bets")
    seconds = OF_BETS * clock.left()
    drawing, until = clock.used() + seconds / 2, clock.used() + seconds
    length, n = min(LENGTH, max(64, len(session.tokens))), 0
    bets = Bets(length, session.rounding.of_sum(np.zeros(0)))
    drawn = proposals(session.vocab_size, STREAMS, rng)
    while n < STREAMS and (n == 0 or clock.used() < drawing):
        some = drawn[n : n + 4]
        streams = [proposal.draw(length, rng) for proposal in some]
        for proposal, stream, nats in zip(some, streams, session.score_each(streams), strict=True):
            bets.add(proposal, stream, nats)
        n += len(some)
    for suspect in bets.suspects(SUSPECTS):
        if clock.used() > until or session.has("C2", "sum"):
            break
        try_suspect(session, suspect)
    if max(bets.winnings()) > np.log(CERTAIN) and not session.has("C2", "sum"):
        tell_bets(session, bets)
    session.checks.append(
        Check("C2", "bets on random streams against a sum above 1", n * length, calls=n,
              note=f"{n:,} streams of {length:,} tokens")
    )  # fmt: skip


def try_suspect(session: Session, suspect: Suspect) -> None:
    """A finding if the tokens of a suspect's alphabet have more than all of the probability."""
    prefix, token = suspect.stream[:-1], int(suspect.stream[-1])
    near = dict.fromkeys([token, *map(int, prefix[-SUBSET:]), *suspect.alphabet])
    try_subset(session, prefix, list(near)[:SUBSET])


def check_lowest(session: Session, nats: Floats) -> None:
    """A finding where the stream is cheapest, if other tokens would have been as cheap."""
    common = np.argsort(-np.bincount(session.tokens, minlength=1))[:SUBSET]
    tried, rng = 0, session.rng("lowest")
    lowest = map(int, np.argsort(nats, kind="stable")[:LOWEST])
    for t in dict.fromkeys([*session.suspects[:LOWEST], *lowest]):
        if session.has("C2", "sum") or session.clock.left() <= 0:
            break
        others = rng.integers(session.vocab_size, size=8)
        near = [int(session.tokens[t]), *map(int, session.tokens[max(0, t - 8) : t])]
        tokens = list(dict.fromkeys([*near, *map(int, others), *map(int, common)]))
        try_subset(session, session.tokens[:t], tokens[:SUBSET])
        tried += 1
    session.checks.append(Check("C2", "other tokens where the stream is cheapest", tried, calls=0))


def try_subset(session: Session, prefix: Tokens, tokens: Sequence[int]) -> bool:
    """Whether some of the tokens have more than all of the probability; then there is a finding."""
    cost = session.clock.cost(len(prefix) + 1)
    n = len(tokens) if cost * len(tokens) < 0.05 * session.clock.left() else 8
    nats = charges(session, prefix, tokens[:n])
    few = fewest(session, nats)
    if few is None:
        return False
    chosen = [tokens[i] for i in few]

    def shows(ending: Tokens) -> bool:
        return fewest(session, charges(session, ending, chosen)) is not None

    short = shortest(prefix, 0, shows, session.clock, 0.1 * max(session.clock.left(), 0.0))
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
    """(n,) nats: what each token costs after the prefix."""
    streams = (np.append(prefix, token) for token in tokens)
    found: list[float] = []
    while batch := [*islice(streams, BATCH)]:
        found += [float(nats[-1]) for nats in session.score_each(batch)]
        if len(found) < len(tokens) and session.clock.left() < 0:
            break
    return np.array(found)


def check_sums(session: Session) -> None:
    """A finding if all probabilities after a prefix do not sum to 1."""
    v, clock = session.vocab_size, session.clock
    until = clock.used() + OF_SUMS * clock.left()
    tried: list[int] = []
    for prefix in prefixes(session):
        left = until - clock.used()
        if v * clock.cost(len(prefix) + 1) > left or len(tried) >= session.n_positions:
            if left < 0 or len(tried) >= session.n_positions:
                break
            continue  # a shorter one may still do
        nats = charges(session, prefix, range(v))
        if len(nats) < v:
            break
        tried.append(len(prefix))
        total = float(np.exp(-np.where(np.isnan(nats), np.inf, nats)).sum())
        if abs(total - 1) > session.rounding.of_sum(nats):
            check_bits(nats)
            tell_whole(session, prefix, nats)
            break
    note = (
        f"prefixes of {min(tried):,} to {max(tried):,} tokens"
        if tried
        else (f"one sum takes {v:,} calls; raise budget_seconds, or pass probs_fn")
    )
    session.checks.append(
        Check("C2", "probabilities of the whole vocabulary summed", len(tried), "sums",
              v * len(tried), smallest_share(len(tried)), note,
              is_enough=session.has("C2") or len(tried) >= min(ENOUGH, len(session.tokens)))
    )  # fmt: skip


def prefixes(session: Session) -> Iterator[Tokens]:
    """Prefixes of all kinds: of the stream, of its middle, and random ones; short ones mostly."""
    tokens, n = session.tokens, len(session.tokens)
    rng = session.rng("sums")
    fixed = [0, 1, *(e for e in session.edges if e < n), min(64, n - 1), n - 1, n // 2]
    yield from (tokens[:t] for t in dict.fromkeys(fixed))
    alphabets = proposals(session.vocab_size, session.n_positions, rng)
    for i in range(session.n_positions):
        length = int(min(n - 1, 2.0 ** rng.uniform(1, 7)))
        if i % 16 == 15:
            length = int(rng.integers(n))
        if i % 2:
            start = int(rng.integers(n - length))
            yield tokens[start : start + length]
        else:
            yield alphabets[i // 2].draw(max(length, 1), rng)


def tell_whole(session: Session, prefix: Tokens, nats: Floats) -> None:
    """The finding of a whole sum, with the shortest prefix that shows it."""
    v, wrong = session.vocab_size, {}

    def shows(ending: Tokens) -> bool:
        each = charges(session, ending, range(v))
        is_wrong = len(each) == v and (
            abs(float(np.exp(-each).sum()) - 1) > session.rounding.of_sum(each)
        )
        if is_wrong:
            wrong[len(ending)] = each
        return is_wrong

    short = shortest(prefix, 0, shows, session.clock, 0.1 * max(session.clock.left(), 0.0))
    tell_sum(session, short, (), wrong.get(len(short), nats))


def tell_sum(session: Session, prefix: Tokens, tokens: Sequence[int], nats: Floats) -> None:
    """The finding of probabilities (n,) that do not sum to 1."""
    p = np.exp(-nats)
    total = float(p.sum())
    who = f"{len(tokens):,} of the {session.vocab_size:,} tokens" if tokens else "all tokens"
    if bool((np.abs(nats) < 1e-9).all()):
        why = "every token is free here"
    elif total > 1:
        why = (
            "the table is not normalised over the vocabulary, or the score of a token depends on "
            "the token itself: it is a key, opens a gate, chooses, or was learned before (C3)"
        )
    else:
        why = "some of the probability goes to no token"
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
    odds = float(np.exp(min(700.0, max(bets.winnings()))))
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


def check_bits(nats: Floats) -> None:
    """StoppedError if the scores are bits, or logarithms to base 10."""
    for base, name in ((2.0, "bits"), (10.0, "logarithms to base 10")):
        if abs(float((base**-nats).sum()) - 1) < 1e-6:
            raise StoppedError(
                f"score_fn must return nats, got {name}: the sum of {base:g}^-score is 1; multiply "
                f"the scores by {np.log(base):.6g}"
            )
