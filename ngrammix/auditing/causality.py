"""Causality (C1): scores up to a position stay when the tokens from there on are changed."""

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from ngrammix.auditing.report import Check, smallest_share
from ngrammix.auditing.rounding import moved
from ngrammix.auditing.scorer import StoppedError
from ngrammix.auditing.session import Session, shortest, shown
from ngrammix.auditing.single_pass import is_constant, is_same
from ngrammix.auditing.streams import N_KINDS, changed
from ngrammix.auditing.witness import Witness
from ngrammix.types import Floats, Tokens

SHARE = 0.3  # of the time that is left
FIRST = 1100  # positions that are all cut: each chunk of up to 1,024 tokens has its edge there
CHANGES = 8  # of each position, at most, on average
PASSES = 16  # over the first positions, each with other changes
WHOLE = (*range(N_KINDS), 3, 3, 3, 3)  # changes up to the end; the fourth kind draws its token
ENOUGH = 8  # cuts without which no verdict is given
MUCH = 4096  # tokens beyond the end, at most
TAILS = (1, 2, 8, 64)  # tokens after a cut
TELLING = (1, 2, 3, 10, 100, 1000, *(2**k for k in range(2, 11)))  # cuts that come first


def check_causality(session: Session, whole: Floats) -> None:
    """A finding if scores before a cut move when the tokens after it are changed.

    The stream is cut at each of its first 1,100 positions, and at random ones after them; then
    again with other changes, until the time is used.
    """
    n, until, began = len(session.tokens), session.clock.until(SHARE), session.clock.calls
    bases = {n: whole}  # scores of the stream and of its prefixes, by length
    asked: deque[int] = deque()  # the cuts of streams whose scores have not come yet

    def streams() -> Iterator[Tokens]:
        rng = session.rng("changes")
        short = short_futures(session)
        first = islice(short, ENOUGH)
        for t, longer, kind, ends in chain(first, long_futures(session, whole), short):
            asked.append(t)
            yield changed(longer, t, len(longer), session.vocab_size, kind, rng, ends)

    tried: set[int] = set()
    n_cuts = 0
    for stream, nats in session.score_until(streams(), until):
        t = asked.popleft()
        tried.add(t)
        n_cuts += 1
        n_base = base_of(len(stream), n, session)
        if n_base not in bases:
            bases[n_base] = session.score(session.tokens[:n_base])
        base = bases[n_base]
        if np.exp(-base[t]) + np.exp(-nats[t]) > 1 + session.rounding.of_sum(base[t : t + 1]):
            session.suspects.append(t)
        is_moved = (moved(base[:t], nats[:t]) > session.rounding.between(base[:t])).any()
        if is_moved and confirm(session, np.resize(session.tokens, len(stream)), stream, t):
            break
        if session.has("C4", "repeat"):
            break
    add_check(session, tried, n_cuts, session.clock.calls - began)


def add_check(session: Session, tried: set[int], n_cuts: int, n_calls: int) -> None:
    """Say how many positions were cut."""
    n = len(session.tokens) - 1
    first = next((t for t in range(1, n + 2) if t not in tried), n + 1) - 1
    note = f"each of the first {first:,} positions" if first < n else "every position"
    session.checks.append(
        Check("C1", "tokens from a position on changed", len(tried), "positions", n_calls,
              smallest_share(len(tried), n), f"{note}, {n_cuts / max(1, len(tried)):.1f} times",
              is_enough=session.has("C1") or len(tried) >= min(ENOUGH, n))
    )  # fmt: skip


Future = tuple[int, Tokens, int, tuple[int, ...]]  # cut, whole stream, kind of change, its tokens


def long_futures(session: Session, nats: Floats) -> Iterator[Future]:
    """Futures that outweigh what stands before them: what was chosen in hindsight changes."""
    tokens, n = session.tokens, len(session.tokens)
    ends = tuple(int(tokens[find(nats)]) for find in (np.argmin, np.argmax))
    longer = np.resize(tokens, n + min(3 * n, MUCH))
    if session.rounding.length or not takes(session, longer):
        longer = tokens
    for kind in WHOLE:
        for t in dict.fromkeys(n * i // 4 for i in (1, 2, 3)):
            if t > 0:
                yield t, longer, kind, ends


def takes(session: Session, tokens: Tokens) -> bool:
    """Whether the scorer takes a stream that is longer than the one that was given."""
    try:
        session.score(tokens)
    except StoppedError:
        if session.clock.left() < 0:
            raise
        return False
    return True


def short_futures(session: Session) -> Iterator[Future]:
    """Cuts at all places, each with a few tokens after it."""
    for kind, t in enumerate(islice(cuts(session), CHANGES * session.n_positions)):
        yield t, session.tokens[: length_for(session, t)], kind, ()


def cuts(session: Session) -> Iterator[int]:
    """Where the stream is cut: telling places, all of the first ones, random others; then again.

    The first time in their order, so that the first positions are whole when the time is up.
    """
    n, rng = len(session.tokens), session.rng("cuts")
    telling = [n - 1, *session.edges, *(e + 1 for e in session.edges), *TELLING]
    telling = [t for t in dict.fromkeys(telling) if 0 < t < n][: session.n_positions]
    first, later = np.arange(1, min(n, FIRST + 1)), np.arange(FIRST + 1, n)
    yield from telling
    for i in range(PASSES):
        others = iter(rng.permutation(later).tolist())
        near = (first if i == 0 else rng.permutation(first))[: session.n_positions]
        for j, t in enumerate(near.tolist()):
            yield t
            if j % 4 == 3:
                yield from islice(others, 1)
            if j % 64 == 63:
                yield from telling
    yield from rng.permutation(later)[: session.n_positions].tolist()


def length_for(session: Session, cut: int) -> int:
    """Tokens of the changed stream of a cut.

    Where the length rounds the scores, both streams have the same: a power of two, so that many
    cuts share the scores of one prefix.
    """
    n = len(session.tokens)
    if session.rounding.length:
        return min(n, max(64, 1 << cut.bit_length()))
    return min(n, cut + TAILS[cut % len(TAILS)])


def base_of(length: int, n: int, session: Session) -> int:
    """Tokens of the stream that a changed one is compared with: see `length_for`."""
    return length if session.rounding.length else n


def confirm(session: Session, base: Tokens, other: Tokens, cut: int) -> bool:
    """Whether the difference shows again; then there is a finding, made as short as can be."""
    first, second = session.score_each([base, other])
    gap = largest(session, first[:cut], second[:cut])
    if gap is None or not is_constant(session, base, first):
        return False
    if not is_constant(session, other, second):
        return False
    end = min(len(base), cut + 64)
    if difference(session, base[:end], other[:end], cut) is not None:
        base, other = base[:end], other[:end]
    tail = len(base) - cut

    def shows(ending: Tokens) -> bool:
        n = len(ending)
        return difference(session, base[-n:], other[-n:], n - tail) is not None

    n = len(shortest(base, tail + 1, shows, session.clock))
    base, other, cut = base[-n:], other[-n:], n - tail
    gap = difference(session, base, other, cut) or gap
    t, (before, after) = gap
    session.find(
        "C1",
        t,
        Witness("future", (before, after), "nats", shown(base), shown(other), t),
        f"a score must not depend on later tokens, got {before:.6g} and {after:.6g} nats at "
        f"position {t} of {len(base)} when the tokens from position {cut} on were changed",
    )
    return True


def difference(
    session: Session, base: Tokens, other: Tokens, cut: int
) -> tuple[int, tuple[float, float]] | None:
    """(position, its two scores) where two streams differ most before a cut, if not by chance."""
    first, second, again = session.score_each([base, other, base])
    gap = largest(session, first[:cut], second[:cut])
    return gap if gap is None or is_same(session, base, first, again) else None


def largest(
    session: Session, first: Floats, second: Floats
) -> tuple[int, tuple[float, float]] | None:
    """(position, its two scores) where scores differ most, if by more than rounding."""
    beyond = moved(first, second) - session.rounding.between(first)
    t = int(np.argmax(beyond))
    return (t, (float(first[t]), float(second[t]))) if beyond[t] > 0 else None
