"""By brute force, which conditions a scorer breaks on a stream: each cut, each token, each sum."""

import inspect

import numpy as np

TOLERANCE = 1e-9


def total_probability(score, prefix, vocab_size):
    """The sum over the vocabulary of the probability of the next token after `prefix`."""
    nats = [score(np.append(prefix, v))[-1] for v in range(vocab_size)]
    return np.exp(-np.array(nats)).sum()


def breaks_causality(score, tokens, vocab_size, cuts, rng, tolerance=TOLERANCE):
    """Whether nats[:t] depend on the tokens from t on: removed, or replaced by others."""
    nats = np.asarray(score(tokens))
    for t in cuts:
        other = rng.integers(vocab_size, size=len(tokens) - t)
        for changed in (tokens[:t], np.append(tokens[:t], other)):
            again = score(changed)[:t]
            if not np.allclose(again, nats[:t], rtol=0, atol=tolerance, equal_nan=True):
                return True
    return False


def breaks_normalisation(score, tokens, vocab_size, places, tolerance=TOLERANCE):
    """Whether a sum is not 1, a score is below 0 or no number, or a smaller table scores better."""
    nats = np.asarray(score(tokens))
    if np.isnan(nats).any() or (nats < -tolerance).any():
        return True
    if "table_size" in inspect.signature(score).parameters:
        return score(tokens, table_size=64).sum() < nats.sum() - tolerance
    sums = (total_probability(score, tokens[:t], vocab_size) for t in places)
    return any(not abs(total - 1) < tolerance for total in sums)


def breaks_single_pass(score, tokens, vocab_size, rng):
    """Whether the number of scores is wrong, or a score is another one when it is asked again."""
    nats = np.asarray(score(tokens))
    if nats.shape != tokens.shape:
        return True
    half = len(tokens) // 2
    for _ in range(50):
        other = np.append(tokens[:half], rng.integers(vocab_size, size=len(tokens) - half))
        if np.array_equal(score(other), nats, equal_nan=True):
            return True  # the scores of another text
        if not np.array_equal(score(tokens), nats, equal_nan=True):
            return True
    return False
