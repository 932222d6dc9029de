"""Rounding: how far the scores of an honest scorer can move without a reason."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ngrammix.types import Floats

# Relative spacing of the numbers of each dtype. A score computed in one of them, and returned in a
# wider one, is still one of its numbers.
UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}
ROUND = 32.0  # a multiple of 1 / 32 says nothing of its dtype
FEW_LOGITS = 12  # of a row without which nothing is said of their dtype
MOST = 0.9  # of the logits of a row that are numbers of their dtype
CLOSE = 4e-6  # nats that float32 loses in a softmax
COARSE = 2.0**-12  # spacing from which on the numbers are those of a 16-bit dtype
# Nats, and their share, that sums in another order lose. Numbers of float32 may come from a network
# in 16 bits.
FLOOR = {"float64": 2e-5, "float32": 1e-3}
OF_SUM = {"float64": 5e-5, "float32": 1e-4}  # what probabilities may miss a sum of 1 by
LOW_PRECISION = 0.35  # nats that bfloat16 can move a single score by, in a deep network
TYPICAL = 0.05  # nats that it moves half of the scores by, at most
WIDE = 0.2  # of the scores that a second run moves at least, if rounding does it
OF_LOGITS = 4.0  # spacings of a logit and of 1 nat that batches of another shape move a score by
OF_SCORE = 2.0**-5  # of a score and 1 nat that a second run moves it, by at most four times this
FAR = 0.05  # of the scores that it moves further than this, at most
LEAST = 2e-5  # nats that a change moves scores by, to be compared with those of another
LAST, BY_CHANCE = 2, 1e9  # last tokens; where the others do not move, once in so many audits
NARROW = UNITS["float32"]
SMOOTH = 0.1  # a shorter change that moves scores less than this share is no rounding


@dataclass
class Rounding:
    """What was measured of a scorer's rounding.

    Attributes
    ----------
    unit : float
        Relative spacing of the scores.
    step : float, nats
        Spacing of scores that were printed with a few decimals; else 0.
    probability_unit : float
        Relative spacing of the probabilities, if they were rounded before the logarithm; else 0.
    length : float, nats
        How far scores move when only the number of later tokens differs: another shape of the same
        sums is rounded in another way.
    repeat : float, nats
        How far scores move when nothing differs: threads may add in another order.
    logit_unit : float
        Relative spacing of the logits, if they are numbers of 16 bits; else 0.
    """

    unit: float = UNITS["float64"]
    step: float = 0.0
    probability_unit: float = 0.0
    length: float = 0.0
    repeat: float = 0.0
    logit_unit: float = 0.0

    def measure(self, scores: Sequence[Floats]) -> None:
        """Note the spacing of scores, of their probabilities, and of their printed decimals."""
        self.unit, self.probability_unit = measure_unit(scores)
        self.step = step_of(np.concatenate(scores))

    @property
    def dtype(self) -> str:
        """``float64``, or ``float32`` for what has its precision or less."""
        return "float32" if self.unit >= NARROW else "float64"

    def between(self, nats: Floats) -> Floats:
        """How far scores (N,) may differ between two streams."""
        size = np.where(np.isfinite(nats), np.abs(nats), 0.0)
        units = 8 * (self.unit * size + self.probability_unit) + 2 * self.step
        share = max(FLOOR[self.dtype], OF_LOGITS * self.logit_unit, OF_SCORE * (self.repeat > 0))
        return share * (1 + size) + units + 2 * self.length + 2 * self.repeat

    def of_sum(self, nats: Floats) -> float:
        """How far the probabilities of scores (V,) may miss the sum of 1."""
        nats = nats[np.isfinite(nats)]
        p = np.exp(-nats)
        spacing = p * (self.unit * np.abs(nats) + self.probability_unit + self.step / 2)
        of_scores = 2 * float(spacing.sum()) + 6 * float(spacing.max(initial=0.0))
        of_shape = min(2 * self.length + 2 * self.repeat + OF_LOGITS * self.logit_unit, TYPICAL)
        return OF_SUM[self.dtype] + of_scores + of_shape


def measure_unit(scores: Iterable[Floats]) -> tuple[float, float]:
    """Relative spacing of scores, and that of their probabilities if it is coarse, else 0."""
    nats = np.concatenate([np.ravel(one) for one in scores])
    nats = nats[np.isfinite(nats)]
    unit = spacing_of(nats)
    p = np.exp(-nats[nats < 60])  # float32 holds the others with fewer digits
    of_p = max((UNITS[d] for d in ("bfloat16", "float16") if is_on_grid(p, d)), default=0.0)
    return unit, of_p if len(np.unique(p)) > 16 and unit < COARSE else 0.0


def spacing_of_logits(nats: Floats) -> float:
    """Relative spacing of the logits that scores (n,) of one row come from, if of 16 bits; else 0.

    A score is a constant less a logit. So there is a constant for which the differences are numbers
    of that dtype, but for a few of other rows; for other scores no constant does it.
    """
    nats = np.unique(nats[np.isfinite(nats)])
    if len(nats) < FEW_LOGITS:
        return 0.0
    for dtype, digits in (("bfloat16", 8), ("float16", 11)):
        steps = np.arange(2 ** (digits - 1), 2**digits) / 2.0 ** (digits - 1)
        firsts = np.outer(2.0 ** np.arange(-10, 6), steps).ravel()
        firsts = np.concatenate([firsts, -firsts, [0.0]])[:, None]  # what one logit may be
        for anchor in nats[[0, len(nats) // 2, -1]]:
            logits = firsts + (anchor - nats)
            is_near = np.abs(rounded(logits, dtype) - logits) < CLOSE
            if is_near.mean(axis=1).max() >= MOST:
                return UNITS[dtype]
    return 0.0


def step_of(nats: Floats) -> float:
    """Spacing of scores that were rounded to 2 to 8 decimals; 0 for others."""
    nats = informative(nats[np.isfinite(nats)])
    for digits in range(2, 9):
        scaled = nats * 10.0**digits
        if len(nats) and (np.abs(scaled - np.rint(scaled)) < 1e-6).all():
            return float(10.0**-digits)
    return 0.0


def informative(values: Floats) -> Floats:
    """The values that are no round numbers: every dtype, and every printed form, holds those."""
    kept: Floats = values[values * ROUND != np.rint(values * ROUND)]
    return kept


def spacing_of(values: Floats) -> float:
    """Relative spacing of the coarsest dtype that holds all values exactly."""
    values = informative(values)
    if len(values):
        for dtype in ("bfloat16", "float16", "float32"):
            if np.array_equal(rounded(values, dtype), values):
                return UNITS[dtype]
    return UNITS["float64"]


def is_on_grid(p: Floats, dtype: str) -> bool:
    """Whether probabilities, known to some digits of float32, are numbers of a 16-bit dtype."""
    return bool((np.abs(rounded(p, dtype) - p) <= 2e-6 * p).all())


def rounded(values: Floats, dtype: str) -> Floats:
    """Values rounded to a dtype, as float64."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return values.astype(dtype).astype(np.float64)
        bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
        even = (bits >> np.uint64(16)) & np.uint64(1)
        bits = (bits + np.uint64(0x7FFF) + even) & np.uint64(0xFFFF0000)
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def moved(a: Floats, b: Floats) -> Floats:
    """How far scores (N,) are apart; 0 where both are the same, infinities and NaN too."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))


def rounding_of_length(by_many: Sequence[Floats], by_one: Floats) -> float | None:
    """The rounding that other lengths show, in nats; None if it cannot be rounding.

    Parameters
    ----------
    by_many : sequence of (N,) float, nats
        How far the scores of each prefix are from those of the whole.
    by_one : (N,) float, nats
        The same where the prefix is one token shorter than the whole.

    Notes
    -----
    Sums of another shape are rounded in another way: by a little at most positions, and by as much
    when one token is missing as when many are. A score that follows the length of the stream moves
    less when the length does.
    """
    every = np.concatenate(by_many)
    largest = float(every.max(initial=0.0))
    typical = float(np.median(every[every > 0])) if (every > 0).any() else 0.0
    if largest > LOW_PRECISION or typical > TYPICAL:
        return None
    one = float(by_one.max(initial=0.0))
    return None if LEAST < one < SMOOTH * largest else largest


def is_of_the_end(apart: Mapping[int, Floats]) -> bool:
    """Whether prefixes differ from the whole at their last tokens alone, which no rounding does.

    Parameters
    ----------
    apart : mapping of int to (L,) float, nats
        By the length L of each prefix, how far its scores are from those of the whole.

    Notes
    -----
    A token that is seen by its own row, or by the one before, once the stream goes on, moves the
    scores at the end of each prefix: by less than rounding does, but there alone. Sums that are
    rounded in another way differ at any token, so that all of the prefixes do it by chance with a
    probability of the product of (last tokens) / L.
    """
    where = {n: np.flatnonzero(moves > LEAST) for n, moves in apart.items() if n > LAST}
    where = {n: at for n, at in where.items() if len(at)}
    if any(at[0] < n - LAST for n, at in where.items()):
        return False
    return math.prod(n / LAST for n in where) > BY_CHANCE


def rounding_of_repeats(apart: Floats, nats: Floats, unit: float) -> float | None:
    """The rounding that a second run shows, in nats; None if it cannot be rounding.

    Parameters
    ----------
    apart, nats : (N,) float, nats
        How far the second run is from the first, and the scores.
    unit : float
        Relative spacing of the scores.

    Notes
    -----
    Threads of a device add in any order. That moves most scores of a network in 16 bits, each by
    little. Scores that were computed in float64 do not move, and no rounding moves single ones far.
    """
    is_wide = float((apart > 0).mean()) > WIDE
    bound = np.minimum(OF_SCORE * (1 + np.abs(nats)), LOW_PRECISION)
    is_short = float((apart > bound).mean()) < FAR and bool((apart <= 4 * bound).all())
    is_typical = float(np.median(apart)) <= TYPICAL
    return float(apart.max()) if is_wide and is_short and is_typical and unit >= NARROW else None
