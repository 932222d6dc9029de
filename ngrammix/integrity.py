"""The sums that make every estimator exact, verified over whole tables."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import find
from ngrammix.table import Table


def check_tables(tables: Sequence[Table], counts_of_counts: NDArray[np.int64]) -> None:
    """Raise RuntimeError at the first broken sum.

    tables: the n-grams of 0, 1, ..., order tokens; counts_of_counts (order, 2): how many n-grams of
    each order were counted once and twice.
    """
    for k, (parents, children) in enumerate(pairwise(tables)):
        contexts = parents.rows[: len(parents)]
        grams = children.rows[: len(children)]
        prefix, count = grams[:, find.PREFIX], grams[:, find.COUNT]
        nodes = np.arange(len(contexts), dtype=np.uint32)
        hints = contexts[:, find.HINT].astype(np.int64)
        largest = np.zeros(len(contexts), np.uint32)
        np.maximum.at(largest, prefix, count)
        n = len(contexts)
        broken = {
            "followers is not the sum of counts": contexts[:, find.FOLLOWERS]
            != np.bincount(prefix, weights=count, minlength=n),
            "distinct is not the number of counts above 0": contexts[:, find.DISTINCT]
            != np.bincount(prefix, weights=count > 0, minlength=n),
            "hint_count is not the largest count": contexts[:, find.HINT_COUNT] != largest,
            "the hint's count is not hint_count": contexts[:, find.HINT_COUNT]
            != children.token_counts(nodes, hints),
            "an n-gram is not found under its key": np.arange(len(grams))
            != children.lookup(prefix, grams[:, find.TOKEN].astype(np.int64)),
            "counts of counts are off": counts_of_counts[k]
            != [np.sum(count == 1), np.sum(count == 2)],
        }
        for verdict, where in broken.items():
            if where.any():
                raise RuntimeError(
                    f"broken table: {verdict}, row {np.argmax(where)}, contexts of {k} tokens; "
                    "this is a bug of ngrammix: please report it with the stream"
                )
