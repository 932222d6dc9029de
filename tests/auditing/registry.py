"""How scorers enter the zoo: name, maker, and the conditions that each breaks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tests.auditing.parts import Bigram

Score = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class Planted:
    """A scorer with one fault.

    Attributes
    ----------
    make : callable
        make(seed, vocab_size) -> score_fn; score_fn(tokens) -> nats, (n,) float64 each.
    main : frozenset of str
        The conditions that a reviewer would name; an audit names one of them at least.
    conditions : frozenset of str
        All conditions that are broken; an audit names no other.
    n_tokens : int
        Length of a stream on which the fault shows.
    rounding : float
        By how much a score in nats may be wrong without it.
    """

    make: Callable[[int, int], Score]
    main: frozenset[str]
    conditions: frozenset[str]
    n_tokens: int
    rounding: float = 1e-9


@dataclass(frozen=True)
class Honest:
    """A scorer without a fault.

    Attributes
    ----------
    make : callable
        As of `Planted`; scores may come as other types of numbers.
    rounding : float
        By how much a score in nats may be wrong, since the scorer computes in few bits.
    """

    make: Callable[[int, int], Score]
    rounding: float


PLANTED: dict[str, Planted] = {}
HONEST: dict[str, Honest] = {}


def plant(main, also="", *, n_tokens=256, rounding=1e-9, **choices):
    """Register a maker (seed, vocab_size, **choice), once for each combination of the choices."""

    def register(make):
        for values in product(*choices.values()):
            choice = dict(zip(choices, values, strict=True))
            name = "_".join([make.__name__, *map(str, values)])
            PLANTED[name] = Planted(
                lambda seed, vocab_size, choice=choice: make(seed, vocab_size, **choice),
                frozenset(main.split()),
                frozenset(f"{main} {also}".split()),
                max([n_tokens, *(2 * value + 64 for value in values if isinstance(value, int))]),
                rounding,
            )
        return make

    return register


def plant_formula(main, also="", **options):
    """Register a formula (lm, tokens, **choice) -> probability of each token."""

    def register(formula):
        def make(seed, vocab_size, **choice):
            return from_formula(lambda lm, tokens: formula(lm, tokens, **choice), seed, vocab_size)

        make.__name__ = formula.__name__
        plant(main, also, **options)(make)
        return formula

    return register


def honest(rounding=1e-10):
    """Register a maker (seed, vocab_size) of an honest scorer."""

    def register(make):
        HONEST[make.__name__] = Honest(make, rounding)
        return make

    return register


def honest_formula(formula):
    """Register a formula (lm, tokens) -> probability of each token."""
    HONEST[formula.__name__] = Honest(partial(from_formula, formula), 1e-10)
    return formula


def from_formula(formula, seed, vocab_size):
    """A scorer from (lm, tokens) -> probabilities."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        tokens = np.asarray(tokens)
        with np.errstate(divide="ignore", invalid="ignore"):
            return -np.log(formula(lm, tokens))

    return score
