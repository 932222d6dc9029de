"""Single pass (C4): the same scores in every run, and those of a prefix are those of the whole."""

import numpy as np

from ngrammix.auditing.report import Check
from ngrammix.auditing.rounding import (
    LEAST,
    is_of_the_end,
    moved,
    rounding_of_length,
    rounding_of_repeats,
    spacing_of_logits,
)
from ngrammix.auditing.session import Session, shown
from ngrammix.auditing.streams import N_KINDS, changed
from ngrammix.auditing.witness import Witness
from ngrammix.types import Floats, Tokens

WIDE = 0.1  # share of a prefix whose scores move, from which on the whole was read before
ROW = 64  # tokens at one place whose scores show the dtype of the logits
SAMPLE = 256  # random tokens whose scores show their dtype
SHARE = 0.15  # of the time that is left, for prefixes
MANY = 24  # prefixes
FEW = 0.02  # share of scores: a leak at single places moves fewer, rounding of a batch more
UNSURE = 0.15  # nats that the length moves scores by, from which on no verdict is given
FOLLOWS = "scores follow the length by more than rounding often does; audit the scorer in float32"
RUNS, OF_RUNS = 24, 0.05  # runs before a finding, and the share of the time left for them
WORST = 3  # prefixes that are looked at once more


def check_repeats(session: Session, heads: tuple[Floats, Floats]) -> Floats | None:
    """The scores of the stream; None if they are not the same in a second run.

    It is scored twice, then once more after another stream. `heads` are the scores of its first
    tokens by the first two calls of all.
    """
    tokens = session.tokens
    n_random = min(SAMPLE, len(tokens))
    random = session.rng("rounding").integers(session.vocab_size, size=n_random)
    runs = session.score_each([tokens, tokens, random, random])
    row = row_of_scores(session)
    session.rounding.measure([*runs, row])
    measure_logits(session, row)
    first, second = runs[:2]
    measure_repeats(session, np.concatenate(runs[::2]), np.concatenate(runs[1::2]))
    head = tokens[: len(heads[0])]
    if not (is_same(session, head, *heads) and is_same(session, tokens, first, second)):
        return None
    other = session.rng("repeats").permutation(tokens)[: max(1, len(tokens) // 2)]
    _, third = session.score_each([other, tokens])
    if not is_same(session, tokens, first, third, other):
        return None
    session.checks.append(
        Check("C4", "scored again, and again after another stream", len(tokens),
              calls=session.clock.calls, smallest_share=0.0)
    )  # fmt: skip
    return first


def row_of_scores(session: Session) -> Floats:
    """Scores of many tokens at one place."""
    tokens = session.rng("row").permutation(session.vocab_size)[:ROW]
    prefix = session.tokens[: min(1, len(session.tokens) - 1)]
    streams = (np.append(prefix, token) for token in tokens)
    until = session.clock.until(OF_RUNS)
    return np.array([nats[-1] for _, nats in session.score_until(streams, until)])


def measure_logits(session: Session, row: Floats) -> None:
    """Note the dtype of the logits, by the scores of many tokens at one place."""
    session.rounding.logit_unit = spacing_of_logits(row)
    if session.rounding.logit_unit:
        session.remarks.append(
            "the logits are numbers of 16 bits; differences that their rounding makes are no leaks"
        )


def measure_repeats(session: Session, first: Floats, second: Floats) -> None:
    """Note how far two runs are apart, if rounding can explain it."""
    apart, rounding = moved(first, second), session.rounding
    if (apart > rounding.between(first)).any():
        measured = rounding_of_repeats(apart, first, rounding.unit)
        if measured is not None:
            rounding.repeat = measured
            session.remarks.append(
                f"scores differ by up to {measured:.2g} nats between runs, as rounding in 16 bits "
                "does; smaller leaks are not told from it"
            )


def check_again(session: Session, first: Floats) -> None:
    """A finding if the stream has other scores after all that was scored since."""
    again = session.score(session.tokens)
    is_same(session, session.tokens, first, again, session.tokens)
    name = f"scored again after the {session.clock.calls:,} calls of this audit"
    session.checks.append(Check("C4", name, len(again), calls=1, smallest_share=0.0))


def is_same(
    session: Session, tokens: Tokens, first: Floats, second: Floats, between: Tokens | None = None
) -> bool:
    """Whether two runs over the same tokens agree but for rounding; else there is a finding.

    The scores may be those of the last tokens alone.
    """
    apart = moved(first, second)
    if not (apart > session.rounding.between(first)).any():
        return True
    worst = int(np.argmax(apart))
    t = len(tokens) - len(first) + worst
    why = "at once" if between is None else "after other streams were scored"
    fell = float(second[np.isfinite(second)].sum()) < float(first[np.isfinite(first)].sum())
    hint = "it keeps what it has seen" if fell else "it draws random numbers or keeps state"
    session.find(
        "C4",
        t,
        Witness(
            "repeat", (float(first[worst]), float(second[worst])), "nats",
            shown(tokens), () if between is None else shown(between), t,
        ),
        f"the same stream must have the same scores in every run, got {first[worst]:.6g} and "
        f"{second[worst]:.6g} nats at position {t} when it was scored again {why}: {hint}",
    )  # fmt: skip
    return False


def check_prefixes(session: Session, whole: Floats) -> None:
    """Findings if the scores of prefixes differ from those of the whole stream (C1, C4)."""
    tokens, n = session.tokens, len(session.tokens)
    until, began = session.clock.until(SHARE), session.clock.calls
    prefixes = (tokens[:length] for length in prefix_lengths(n, session))
    scores = {len(prefix): nats for prefix, nats in session.score_until(prefixes, until)}
    apart = {length: moved(nats, whole[:length]) for length, nats in scores.items()}
    beyond = {
        length: moves
        for length, moves in apart.items()
        if (moves > session.rounding.between(whole[:length])).any()
    }
    is_at_end = is_of_the_end(apart)
    if is_at_end:
        beyond = {length: moves for length, moves in apart.items() if (moves > LEAST).any()}
    if beyond:
        worst = sorted(beyond, key=lambda length: -float(beyond[length].max()))[:WORST]
        if not is_steady(session, whole, {length: scores[length] for length in worst}):
            return
        one = apart.get(n - 1, np.zeros(0))
        measured = None if is_at_end else rounding_of_length([*beyond.values()], one)
        is_wide = session.rounding.dtype == "float32" and share_moved(session, whole, apart) > FEW
        if measured is None or (not is_wide and is_moved_by_futures(session, whole, worst)):
            tell(session, whole, beyond, scores[worst[0]])
        else:
            session.rounding.length = measured
            session.remarks.append(
                f"scores move by up to {measured:.2g} nats with the length of the stream, as "
                "rounding in 16 bits does; smaller leaks are not told from it"
            )
    is_unsure = session.rounding.length > UNSURE and not session.findings
    session.checks.append(
        Check("C4", "prefixes scored alone, against the whole", len(scores), "prefixes",
              session.clock.calls - began, is_enough=not is_unsure,
              note=FOLLOWS if is_unsure else "")
    )  # fmt: skip


def is_steady(session: Session, whole: Floats, scores: dict[int, Floats]) -> bool:
    """Whether whole and prefixes have the same scores again and again; else there is a finding."""
    tokens = session.tokens
    return all(
        is_same(session, tokens[: len(nats)], nats, session.score(tokens[: len(nats)]), tokens)
        and is_constant(session, tokens[: len(nats)], nats)
        for nats in (whole, *scores.values())
    )


def is_constant(session: Session, tokens: Tokens, nats: Floats) -> bool:
    """Whether a stream has these scores, of its last tokens, in many runs; else there is a finding.

    A scorer that draws a number in one run of 20 is told from one that reads the future: its odd
    run does not come again each time.
    """
    until = session.clock.until(OF_RUNS)
    runs = [again for _, again in session.score_until([tokens] * RUNS, until)]
    return all(is_same(session, tokens, nats, again[-len(nats) :]) for again in runs)


def is_moved_by_futures(session: Session, whole: Floats, lengths: list[int]) -> bool:
    """Whether scores move when the stream goes on in another way, and is as long as before."""
    n, rng = len(session.tokens), session.rng("futures")
    for length in lengths:
        others = [
            changed(session.tokens, length, n, session.vocab_size, kind, rng)
            for kind in range(N_KINDS)
        ]
        tolerance = session.rounding.between(whole[:length])
        for nats in session.score_each(others):
            if (moved(nats[:length], whole[:length]) > tolerance).any():
                return True
    return False


def prefix_lengths(n: int, session: Session) -> list[int]:
    """Lengths of prefixes: one token less, powers of two, edges, and random ones; short first."""
    lengths = [n - 1, *(2**k for k in range(n.bit_length())), *session.edges]
    lengths += [int(x) for x in session.rng("prefixes").integers(1, n, size=MANY)] if n > 1 else []
    known = [length for length in dict.fromkeys(lengths) if 0 < length < n][: 2 * MANY]
    return sorted(known)


def tell(session: Session, whole: Floats, apart: dict[int, Floats], scores: Floats) -> None:
    """The findings of prefixes that differ from the whole; `scores` are those of the worst."""
    tokens, length = session.tokens, len(scores)
    t = int(np.argmax(apart[length]))
    end, after = len(tokens), float(whole[t])
    for nearer in (length + 1, length + 64):
        nats = session.score(tokens[:nearer])
        if moved(nats, whole[: len(nats)])[t] < float(apart[length][t]) / 2:
            end, after = len(nats), float(nats[t])
            break
    witness = Witness(
        "future", (float(scores[t]), after), "nats",
        shown(tokens[:length]), shown(tokens[:end]), t,
    )  # fmt: skip
    rule = (
        f"got {scores[t]:.6g} nats at position {t} of a prefix of {length} tokens, and "
        f"{after:.6g} when the stream went on"
    )
    session.find("C1", t, witness, f"a score must not depend on later tokens, {rule}")
    wide = share_moved(session, whole, apart)
    if wide > WIDE:
        session.find(
            "C4", t, witness,
            f"a stream must be scored in one pass, {rule}; {wide:.0%} of the scores of such "
            "prefixes moved: the whole stream, or its length, is known before it is scored",
        )  # fmt: skip


def share_moved(session: Session, whole: Floats, apart: dict[int, Floats]) -> float:
    """Share of the positions of all prefixes whose scores moved."""
    n_moved = sum(
        int((a > session.rounding.between(whole[: len(a)])).sum()) for a in apart.values()
    )
    return n_moved / max(1, sum(map(len, apart.values())))
