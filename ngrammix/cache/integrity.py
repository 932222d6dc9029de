"""The sums that make every estimator exact, verified over whole tables."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.table import FIRST_BITS, Table, bits_for
from ngrammix.kernels import find

MOST_RESERVED = 1 << 17  # rows that a table may have room for beyond those in use


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
                    f"broken table: {verdict}, row {np.argmax(where)}, contexts of {k} tokens"
                )


def check_state(
    empty: Mapping[str, NDArray[Any]],
    state: Mapping[str, NDArray[Any]],
    vocab_size: int,
    position: int,
) -> None:
    """Raise ValueError unless `state` has the arrays of `empty` and every address leads somewhere.

    empty, state: what Stream.state gives; of the rows, the number may differ. What is verified here
    is what the kernels would follow unseen: the rest is for `check_tables`.
    """
    if type(position) is not int or position < 0:
        raise ValueError(f"position must be an integer >= 0, not {position!r}")
    if empty.keys() != state.keys():
        raise ValueError(f"it must hold {sorted(empty)}, not {sorted(state)}")
    for name, expected in empty.items():
        shape = (*state[name].shape[:1], *expected.shape[1:])
        is_table = name.startswith("rows ") and name != "rows 0"
        if state[name].dtype != expected.dtype or state[name].shape != (
            shape if is_table else expected.shape
        ):
            raise ValueError(f"{name} has the wrong shape or dtype")
    for name in ("sweeps", "forgotten"):
        if (state[name] < 0).any():
            raise ValueError(f"{name} must be >= 0")
    tables = [state[f"rows {k}"] for k in range(len(state["nodes"]))]
    latest = position + find.BEFORE_FIRST
    for k, rows in enumerate(tables):
        node, seen, bits = (int(state[name][k]) for name in ("nodes", "seen", "bits"))
        if (node != find.NONE and node >= len(rows)) or seen > latest or (k == 0 and node != 0):
            raise ValueError(f"the context of {k} tokens leads nowhere")
        if not bits_for(len(rows), FIRST_BITS) <= bits <= bits_for(len(rows) + MOST_RESERVED):
            raise ValueError(f"an index of 2**{bits} slots is none for {len(rows)} rows")
        limits: dict[int, int] = {}
        if k > 0:
            limits |= {find.PREFIX: len(tables[k - 1]), find.TOKEN: vocab_size}
        if k < len(tables) - 1:
            limits[find.HINT] = vocab_size
        is_off = any(len(rows) and int(rows[:, c].max()) >= limit for c, limit in limits.items())
        if is_off or (len(rows) and int((rows[:, find.LAST] & find.LAST_MASK).max()) > latest):
            raise ValueError(f"rows {k} lead out of the tables")
