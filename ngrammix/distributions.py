"""Rows of logits that are probabilities: somebody has applied the softmax already.

A second softmax makes every distribution flatter, so the loss is wrong and nothing else tells. Rows
of real logits do not all lie in [0, 1] and sum to 1. Two kinds of rows tell nothing: equal logits,
which the softmax maps to what they are, and one-hot rows, which toy models give as logits.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1 / 64  # of a sum: four times what bfloat16 loses by rounding
WIDE = 32  # columns: one such row that sums to 1 is no accident
N_NARROW = 4  # nor are so many rows of fewer columns


def are_probabilities(blocks: Iterable[NDArray[Any]]) -> bool:
    """Whether all rows of all blocks (N, V) are probabilities, and enough of them tell so.

    It stops at the first block that has another row.
    """
    n_telling = 0
    for block in blocks:
        largest = block.max(axis=1)
        if block.min() < 0 or largest.max() > 1 + TOLERANCE:
            return False
        if (abs(block.sum(axis=1, dtype=np.float64) - 1) > TOLERANCE).any():
            return False
        is_telling = (largest < 1) & (block.min(axis=1) < largest)
        n_telling += int(is_telling.sum()) * (N_NARROW if block.shape[1] >= WIDE else 1)
    return n_telling >= N_NARROW
