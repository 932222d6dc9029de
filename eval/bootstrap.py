"""Standard errors by the bootstrap: what another sample of the same text would have said."""

import numpy as np
from numpy.typing import NDArray

MIN_DOCUMENTS = 30  # fewer are no sample of their kind
BLOCK = 1024  # tokens
RESAMPLES = 1000

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


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
        return document, "documents"
    return np.arange(len(document)) // BLOCK, f"blocks of {BLOCK:,} tokens"


def standard_errors(numerators: Floats, denominators: Floats, seed: int = 0) -> Floats:
    """Standard error of each ratio sum(numerators) / sum(denominators) over U units: (K,).

    Each resample draws U units with replacement, the same ones for all K ratios, so differences of
    ratios are paired. NaN where there are fewer than two units.

    Parameters
    ----------
    numerators : (K, U) float64
        K figures of each unit, such as the nats that a mixer saved.
    denominators : (U,) float64, > 0
        What they are measured by, such as bytes.
    seed : int
        Of the draws.

    References
    ----------
    Efron 1979. Bootstrap methods: another look at the jackknife.
    """
    n_units = len(denominators)
    if n_units < 2:
        return np.full(len(numerators), np.nan)
    rng = np.random.default_rng(seed)
    sums = np.vstack([numerators, denominators])
    ratios = np.empty((RESAMPLES, len(numerators)))
    for resample in ratios:
        drawn = np.bincount(rng.integers(n_units, size=n_units), minlength=n_units)
        *totals, size = sums @ drawn
        resample[:] = np.array(totals) / size
    errors: Floats = ratios.std(axis=0, ddof=1)
    return errors
