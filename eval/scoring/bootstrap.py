"""Standard errors by the bootstrap, in one pass over the units of a text."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.types import Floats, Tokens

MIN_DOCUMENTS = 30  # with fewer, blocks of tokens are the units
BLOCK = 1024  # tokens
DOCUMENTS, BLOCKS = "documents", f"blocks of {BLOCK:,} tokens"
RESAMPLES = 1000

STEPS_PER_ONE = float(1 << 20)  # sums are integers in steps, so their order does not matter
MAX_WEIGHT = 8  # of a unit in a resample
MAX_TOTAL = 2.0**63 / (MAX_WEIGHT * STEPS_PER_ONE)  # of all units, so that sums fit in 63 bits
UNITS_AT_ONCE = 64  # their weights fit in the processor's cache
WORDS_PER_UNIT = RESAMPLES // 4  # of 64 bits; a weight takes 16 bits
GAMMA, MIX_A, MIX_B = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Bootstrap:
    """Resampled ratios sum(numerators) / sum(denominators) over a stream of units, K at a time.

    The weight of a unit in a resample is a Poisson variable of mean 1, the limit of drawing with
    replacement from many units. The weights depend on the seed and on the unit's index only, so
    memory holds the sums of each resample alone, and batch sizes do not change a bit. All K ratios
    share the weights: differences of ratios are paired.

    Sums are rounded to steps of 2**-20; those of the units may reach 2**40.

    Parameters
    ----------
    n_ratios : int >= 1
        K.
    seed : int in 0..2**64 - 1
        Seed of the weights.

    References
    ----------
    Efron 1979. Bootstrap methods: another look at the jackknife.
    Hanley, MacGibbon 2006. Creating non-parametric bootstrap samples using Poisson frequencies.
    """

    def __init__(self, n_ratios: int, seed: int = 0) -> None:
        self._seed = seed
        self._n_units = 0
        self._sums = np.zeros((n_ratios + 1, RESAMPLES), np.int64)

    def update(self, units: Floats) -> None:
        """Add the next U units, (K + 1, U): K rows of numerators, one of denominators >= 0."""
        self._sums += self._weighted(units)
        self._n_units += units.shape[1]

    def ratios(self, unfinished: Floats | None = None) -> Floats:
        """(K, R) float64: the ratios in the R <= 1,000 resamples with a denominator > 0.

        unfinished (K + 1, U): further units for this call alone. R is 0 for fewer than two units.
        """
        sums, n_units = self._sums, self._n_units
        if unfinished is not None:
            sums, n_units = sums + self._weighted(unfinished), n_units + unfinished.shape[1]
        if n_units < 2:
            return np.empty((len(sums) - 1, 0))
        *totals, size = sums[:, sums[-1] > 0]
        ratios: Floats = np.array(totals) / size
        return ratios

    def state_dict(self) -> dict[str, Any]:
        """State for `load_state_dict`, as JSON values."""
        return {"seed": self._seed, "n_units": self._n_units, "sums": self._sums.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of a bootstrap of as many ratios; ValueError if its seed is another."""
        if state["seed"] != self._seed:
            raise ValueError(f"seed must be {self._seed}, got {state['seed']}")
        self._n_units = state["n_units"]
        self._sums[:] = state["sums"]

    def _weighted(self, units: Floats) -> Tokens:
        """(K + 1, 1000) int64: sums of the units in each resample, in steps.

        ValueError if the new sums do not fit in 63 bits.
        """
        total = float(np.abs(units).sum())
        before = float(np.abs(self._sums).max()) / (MAX_WEIGHT * STEPS_PER_ONE)
        if not before + total < MAX_TOTAL:
            raise ValueError(
                f"costs must sum to less than {MAX_TOTAL:.1e} nats for standard errors, got "
                f"{total:.1e} more; look at the logits"
            )
        steps = np.rint(units * STEPS_PER_ONE).astype(np.int64)
        sums = np.zeros_like(self._sums)
        for start in range(0, steps.shape[1], UNITS_AT_ONCE):
            part = steps[:, start : start + UNITS_AT_ONCE]
            sums += part @ weights(self._n_units + start, part.shape[1], self._seed)
        return sums


def weights(first: int, n_units: int, seed: int) -> NDArray[np.uint8]:
    """Weights of the units first, first + 1, ... in each resample: (n_units, 1000) uint8, mean 1.

    Unit u uses words 250 u to 250 u + 249 of the generator SplitMix64, 16 bits a weight.

    References
    ----------
    Steele, Lea, Flood 2014. Fast splittable pseudorandom number generators.
    """
    counter = np.arange(
        first * WORDS_PER_UNIT + 1, (first + n_units) * WORDS_PER_UNIT + 1, dtype=np.uint64
    )
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
    """(65536,) uint8: the Poisson variable of mean 1 for each value of 16 random bits.

    Probabilities are rounded to 2**-16: the mean is 1, the variance 0.99997, the maximum 8.
    """
    cumulative = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    edges = np.rint(cumulative * 65536)
    return np.searchsorted(edges, np.arange(65536), side="right").astype(np.uint8)


POISSON = make_poisson()


def standard_errors(numerators: Floats, denominators: Floats, seed: int = 0) -> Floats:
    """Standard error of each ratio sum(numerators) / sum(denominators) over U units: (K,).

    NaN for fewer than two units.

    Parameters
    ----------
    numerators : (K, U) float64
        K quantities of each unit, such as nats saved.
    denominators : (U,) float64, > 0
        Size of each unit, such as bytes.
    seed : int
        Seed of the weights.
    """
    bootstrap = Bootstrap(len(numerators), seed)
    bootstrap.update(np.vstack([numerators, denominators]))
    return deviations(bootstrap.ratios())


def deviations(ratios: Floats) -> Floats:
    """Standard deviation of each row of ratios (K, R): (K,) float64; NaN if R < 2."""
    if ratios.shape[1] < 2:
        return np.full(len(ratios), np.nan)
    errors: Floats = ratios.std(axis=1, ddof=1)
    return errors


def sampling_units(document: Tokens) -> tuple[Tokens, str]:
    """((T,) index of each token's unit, name of the unit): documents, or blocks of tokens.

    Tokens of one document are correlated, so whole documents are resampled. For fewer than 30
    documents the units are blocks of 1,024 consecutive tokens.

    Parameters
    ----------
    document : (T,) int64
        Index of each token's document, ascending from 0.
    """
    if document[-1] + 1 >= MIN_DOCUMENTS:
        return document, DOCUMENTS
    return np.arange(len(document)) // BLOCK, BLOCKS
