"""A short probe for causality: one window of 64 tokens, one token of it changed at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np

from eval.types import Tokens
from ngrammix.logits import to_numpy

LENGTH = 64  # tokens
TOLERANCE = 1e-4  # of a logit, and its share


def sees_the_future(logits: Callable[[Tokens], Any], vocab_size: int, seed: int = 0) -> bool:
    """Whether a change of one token moves the logits before it, as a public probe asks it.

    A pass reads one window alone. The models are taken to keep no state. It ends with the first
    position that shows a leak.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(vocab_size, size=(1, LENGTH))
    before = to_numpy(logits(ids)[0]).copy()
    for position in range(1, LENGTH):
        changed = ids.copy()
        changed[0, position] = (ids[0, position] + rng.integers(1, vocab_size)) % vocab_size
        after = to_numpy(logits(changed)[0])
        if not np.allclose(after[:position], before[:position], TOLERANCE, TOLERANCE):
            return True
    return False
