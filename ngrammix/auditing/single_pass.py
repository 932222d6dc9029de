"""Single pass (C4): the same scores in every run, and those of a prefix are those of the whole."""

import numpy as np

from ngrammix.auditing.report import Check
from ngrammix.auditing.rounding import measure_unit, moved, rounding_of_length
from ngrammix.auditing.session import Session, shown
from ngrammix.auditing.witness import Witness
from ngrammix.types import Floats

WIDE = 0.1  # share of a prefix whose scores move, from which on the whole was read before
MANY = 24  # prefixes


def check_repeats(session: Session) -> Floats | None:
    """The scores of the stream; None if they are not the same in a second run.

    It is scored twice, then once more after another stream.
    """
    tokens = session.tokens
    first, second = session.score_each([tokens, tokens])
    unit, of_p = measure_unit([first])
    session.rounding.unit, session.rounding.probability_unit = unit, of_p
    if compare(session, first, second, ()):
        return None
    other = session.rng("repeats").permutation(tokens)[: max(1, len(tokens) // 2)]
    _, third = session.score_each([other, tokens])
    if compare(session, first, third, shown(other)):
        return None
    session.checks.append(
        Check("C4", "scored again, and again after another stream", len(tokens), calls=4,
              smallest_share=0.0)
    )  # fmt: skip
    return first


def check_again(session: Session, first: Floats) -> None:
    """A finding if the stream has other scores after all that was scored since."""
    again = session.score(session.tokens)
    compare(session, first, again, shown(session.tokens))
    name = f"scored again after the {session.clock.calls} calls of this audit"
    session.checks.append(Check("C4", name, len(again), calls=1, smallest_share=0.0))


def compare(session: Session, first: Floats, second: Floats, between: tuple[int, ...]) -> bool:
    """Whether two runs differ by more than rounding; then there is a finding."""
    apart = moved(first, second)
    if not (apart > session.rounding.between(first)).any():
        return False
    t = int(np.argmax(apart))
    why = "after another stream was scored" if between else "at once"
    fell = float(second[np.isfinite(second)].sum()) < float(first[np.isfinite(first)].sum())
    hint = "it keeps what it has seen" if fell else "it draws random numbers or keeps state"
    session.find(
        "C4",
        t,
        Witness(
            "repeat", (float(first[t]), float(second[t])), "nats",
            shown(session.tokens), between, t,
        ),
        f"the same stream must have the same scores in every run, got {first[t]:.6g} and "
        f"{second[t]:.6g} nats at position {t} when it was scored again {why}: {hint}",
    )  # fmt: skip
    return True


def check_prefixes(session: Session, whole: Floats) -> None:
    """Findings if the scores of prefixes differ from those of the whole stream (C1, C4)."""
    n = len(session.tokens)
    lengths = prefix_lengths(n, session)
    scores = session.score_each([session.tokens[:length] for length in lengths])
    apart = {
        length: moved(nats, whole[:length]) for length, nats in zip(lengths, scores, strict=True)
    }
    beyond = [
        length for length in lengths
        if (apart[length] > session.rounding.between(whole[:length])).any()
    ]  # fmt: skip
    if beyond:
        by_many = [apart[length] for length in beyond]
        measured = rounding_of_length(by_many, apart.get(n - 1, np.zeros(0)))
        if measured is None:
            tell(session, whole, {length: apart[length] for length in beyond}, scores, lengths)
        else:
            session.rounding.length = measured
            session.remarks.append(
                f"scores move by up to {measured:.2g} nats with the length of the stream, as "
                "rounding in 16 bits does; smaller leaks are not told from it"
            )
    session.checks.append(
        Check("C4", "prefixes scored alone, against the whole", len(lengths), "prefixes",
              len(lengths))
    )  # fmt: skip


def prefix_lengths(n: int, session: Session) -> list[int]:
    """Lengths of prefixes: one token less, powers of two, edges, and random ones; short first."""
    lengths = [n - 1, *(2**k for k in range(n.bit_length())), *session.edges]
    lengths += [int(x) for x in session.rng("prefixes").integers(1, n, size=MANY)] if n > 1 else []
    known = [length for length in dict.fromkeys(lengths) if 0 < length < n][: 2 * MANY]
    return sorted(known)


def tell(
    session: Session,
    whole: Floats,
    apart: dict[int, Floats],
    scores: list[Floats],
    lengths: list[int],
) -> None:
    """The findings of prefixes that differ from the whole."""
    length = max(apart, key=lambda n: float(apart[n].max()))
    t = int(np.argmax(apart[length]))
    short = float(scores[lengths.index(length)][t])
    witness = Witness(
        "future", (short, float(whole[t])), "nats",
        shown(session.tokens[:length]), shown(session.tokens), t,
    )  # fmt: skip
    rule = (
        f"got {short:.6g} nats at position {t} of a prefix of {length} tokens, and "
        f"{whole[t]:.6g} when the stream went on"
    )
    session.find("C1", t, witness, f"a score must not depend on later tokens, {rule}")
    wide = share_moved(session, whole, apart)
    if wide > WIDE:
        session.find(
            "C4", t, witness,
            f"a stream must be scored in one pass, {rule}; {wide:.0%} of the scores of prefixes "
            "moved: the whole stream, or its length, is known before it is scored",
        )  # fmt: skip


def share_moved(session: Session, whole: Floats, apart: dict[int, Floats]) -> float:
    """Share of the positions of all prefixes whose scores moved."""
    n_moved = sum(
        int((a > session.rounding.between(whole[: len(a)])).sum()) for a in apart.values()
    )
    return n_moved / max(1, sum(map(len, apart.values())))
