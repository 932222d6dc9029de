"""Standard errors by the bootstrap: what another sample of the same text would have said."""

import math
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

MIN_DOCUMENTS = 30  # fewer are no sample of their kind
BLOCK = 1024  # tokens
DOCUMENTS, BLOCKS = "documents", f"blocks of {BLOCK:,} tokens"
RESAMPLES = 1000

STEPS = float(1 << 20)  # of a sum: whole numbers add up to the same in any order
AT_ONCE = 64  # units whose weights stay in the processor's cache
WORDS = RESAMPLES // 4  # of 64 bits a unit: each weight takes 16
GAMMA, MIX_A, MIX_B = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


class Bootstrap:
    """Standard errors of K ratios sum(numerators) / sum(denominators) over units that stream by.

    In each resample a unit counts as often as a Poisson variable of mean 1 says, which is how often
    it is drawn with replacement from many. The weights follow from the seed and from how many units
    came before, so only the sums of each resample are kept, and neither batches nor a resumed run
    change a bit. All ratios see the same weights: differences of ratios are paired.

    Sums are rounded to steps of 2**-20; each may reach 2**42 in all.

    Parameters
    ----------
    n_ratios : int >= 1
        K.
    seed : int in 0..2**64 - 1
        Of the weights.

    References
    ----------
    Efron 1979. Bootstrap methods: another look at the jackknife.
    Hanley, MacGibbon 2006. Creating non-parametric bootstrap samples using Poisson frequencies.
    """

    def __init__(self, n_ratios: int, seed: int = 0) -> None:
        self._seed = seed
        self._n_units = 0
        self._sums = np.zeros((n_ratios + 1, RESAMPLES), np.int64)

    def add(self, units: Floats) -> None:
        """Count the next U units, (K + 1, U): K numerators of each, and its denominator >= 0."""
        self._sums += self._weighted(units)
        self._n_units += units.shape[1]

    def ratios(self, unfinished: Floats | None = None) -> Floats:
        """The K ratios in each resample that has a denominator: (K, at most 1,000).

        unfinished (K + 1, U): units that are counted this once and not kept. There is no column
        where there are fewer than two units.
        """
        sums, n_units = self._sums, self._n_units
        if unfinished is not None:
            sums, n_units = sums + self._weighted(unfinished), n_units + unfinished.shape[1]
        if n_units < 2:
            return np.empty((len(sums) - 1, 0))
        *totals, size = sums[:, sums[-1] > 0]
        ratios: Floats = np.array(totals) / size
        return ratios

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on, as JSON can hold it."""
        return {"seed": self._seed, "n_units": self._n_units, "sums": self._sums.tolist()}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """The bootstrap whose `state` that was."""
        bootstrap = cls(len(state["sums"]) - 1, state["seed"])
        bootstrap._n_units = state["n_units"]
        bootstrap._sums[:] = state["sums"]
        return bootstrap

    def _weighted(self, units: Floats) -> Tokens:
        """(K + 1, 1000): sums of the units in each resample, in steps."""
        steps = np.rint(units * STEPS).astype(np.int64)
        sums = np.zeros_like(self._sums)
        for start in range(0, steps.shape[1], AT_ONCE):
            part = steps[:, start : start + AT_ONCE]
            sums += part @ weights(self._n_units + start, part.shape[1], self._seed)
        return sums


def weights(first: int, n_units: int, seed: int) -> NDArray[np.uint8]:
    """How often each resample counts the units first, first + 1, ...: (n_units, 1000), mean 1.

    Unit u takes words 250 u to 250 u + 249 of the generator SplitMix64, 16 bits a weight.

    References
    ----------
    Steele, Lea, Flood 2014. Fast splittable pseudorandom number generators.
    """
    counter = np.arange(first * WORDS + 1, (first + n_units) * WORDS + 1, dtype=np.uint64)
    words = np.uint64(seed) + counter * GAMMA
    words ^= words >> np.uint64(30)
    words *= MIX_A
    words ^= words >> np.uint64(27)
    words *= MIX_B
    words ^= words >> np.uint64(31)
    drawn = words.astype("<u8", copy=False).view("<u2")
    counts: NDArray[np.uint8] = POISSON[drawn].reshape(n_units, RESAMPLES)
    return counts


def make_poisson() -> NDArray[np.uint8]:
    """(65536,): the Poisson variable of mean 1 that each 16 bits stand for.

    Chances are rounded to 2**-16: the mean is 1, the variance 0.99997, the most 8.
    """
    chances = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    edges = np.rint(chances * 65536)
    return np.searchsorted(edges, np.arange(65536), side="right").astype(np.uint8)


POISSON = make_poisson()


def standard_errors(numerators: Floats, denominators: Floats, seed: int = 0) -> Floats:
    """Standard error of each ratio sum(numerators) / sum(denominators) over U units: (K,).

    NaN where there are fewer than two units.

    Parameters
    ----------
    numerators : (K, U) float64
        K figures of each unit, such as the nats that a mixer saved.
    denominators : (U,) float64, > 0
        What they are measured by, such as bytes.
    seed : int
        Of the weights.
    """
    bootstrap = Bootstrap(len(numerators), seed)
    bootstrap.add(np.vstack([numerators, denominators]))
    return deviations(bootstrap.ratios())


def deviations(ratios: Floats) -> Floats:
    """Standard deviation of each row of (K, R) resampled ratios: (K,); NaN for fewer than two."""
    if ratios.shape[1] < 2:
        return np.full(len(ratios), np.nan)
    errors: Floats = ratios.std(axis=1, ddof=1)
    return errors


def sampling_units(document: Tokens) -> tuple[Tokens, str]:
    """(T,) index of each token's unit, and what a unit is: a document, or a block of tokens.

    Tokens of one document are alike, so documents are drawn whole; where there are few, blocks of
    consecutive tokens stand for them.

    Parameters
    ----------
    document : (T,) int64
        Index of each token's document, ascending from 0.
    """
    if document[-1] + 1 >= MIN_DOCUMENTS:
        return document, DOCUMENTS
    return np.arange(len(document)) // BLOCK, BLOCKS
