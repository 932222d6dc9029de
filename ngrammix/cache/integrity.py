"""Verification: the sums that make the estimators exact, and the addresses in a saved state."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.table import FIRST_BITS, Table, bits_for
from ngrammix.checks import check_capacity
from ngrammix.kernels import find

MAX_SPARE_ROWS = 1 << 17  # rows that a saved index may have room for beyond those in use


def check_tables(tables: Sequence[Table], counts_of_counts: NDArray[np.int64]) -> None:
    """Raise RuntimeError at the first wrong sum.

    tables: the n-grams of 0, 1, ..., order tokens. counts_of_counts (order, 2): n-grams of each
    order counted once, and twice.
    """
    for k, (context_table, table) in enumerate(pairwise(tables)):
        contexts = context_table.rows[: len(context_table)]
        rows = table.rows[: len(table)]
        prefix, count = rows[:, find.PREFIX], rows[:, find.COUNT]
        n = len(contexts)
        nodes = np.arange(n, dtype=np.uint32)
        hints = contexts[:, find.HINT].astype(np.int64)
        largest = np.zeros(n, np.uint32)
        np.maximum.at(largest, prefix, count)
        wrong = {
            "followers is not the sum of counts": contexts[:, find.FOLLOWERS]
            != np.bincount(prefix, weights=count, minlength=n),
            "distinct is not the number of counts above 0": contexts[:, find.DISTINCT]
            != np.bincount(prefix, weights=count > 0, minlength=n),
            "hint_count is not the largest count": contexts[:, find.HINT_COUNT] != largest,
            "the hint's count is not hint_count": contexts[:, find.HINT_COUNT]
            != table.token_counts(nodes, hints),
            "an n-gram is not found under its key": np.arange(len(rows))
            != table.lookup(prefix, rows[:, find.TOKEN].astype(np.int64)),
            "counts of counts are wrong": counts_of_counts[k]
            != [np.sum(count == 1), np.sum(count == 2)],
        }
        for rule, is_wrong in wrong.items():
            if is_wrong.any():
                raise RuntimeError(
                    f"broken table: {rule}, row {np.argmax(is_wrong)}, contexts of {k} tokens"
                )


def load_state(
    empty: Mapping[str, NDArray[Any]], state: dict[str, NDArray[Any]], tables: Sequence[Table]
) -> None:
    """Copy a state that `check_state` accepts into a new cache; its tables are taken out.

    empty: the arrays of the cache; tables: its tables.
    """
    for name in ("nodes", "seen", "counts of counts", "sweeps", "forgotten"):
        empty[name][:] = state[name]
    for k, table in enumerate(tables[1:], start=1):
        table.load_rows(state.pop(f"rows {k}"), int(state["bits"][k]))
    tables[0].rows[:1] = state["rows 0"]


def check_state(
    empty: Mapping[str, NDArray[Any]],
    state: Mapping[str, NDArray[Any]],
    vocab_size: int,
    position: int,
) -> None:
    """Raise ValueError unless `state` has the arrays of `empty` and every address is valid.

    empty, state: what `NgramCache` saves; tables may have different numbers of rows. This verifies
    what the kernels use as an address; `check_tables` verifies the sums.
    """
    if type(position) is not int or position < 0:
        raise ValueError(f"position must be an integer >= 0, got {position!r}")
    check_capacity(0, position)
    if empty.keys() != state.keys():
        raise ValueError(f"arrays must be {sorted(empty)}, got {sorted(state)}")
    for name, expected in empty.items():
        is_table = name.startswith("rows ") and name != "rows 0"
        n_rows = state[name].shape[:1] if is_table else expected.shape[:1]
        if state[name].dtype != expected.dtype or state[name].shape != (
            *n_rows,
            *expected.shape[1:],
        ):
            raise ValueError(f"{name} has the wrong shape or dtype")
    for name in ("sweeps", "forgotten"):
        if (state[name] < 0).any():
            raise ValueError(f"{name} must be >= 0")
    tables = [state[f"rows {k}"] for k in range(len(state["nodes"]))]
    latest = position + find.BEFORE_FIRST
    for k, rows in enumerate(tables):
        node, last_seen, bits = (int(state[name][k]) for name in ("nodes", "seen", "bits"))
        is_node = node == find.NONE or node < len(rows)
        if not is_node or last_seen > latest or (k == 0 and node != 0):
            raise ValueError(f"the context of {k} tokens has an invalid node or position")
        n_spare = MAX_SPARE_ROWS if k > 0 else 0  # the empty context has one row for good
        if not bits_for(len(rows), FIRST_BITS) <= bits <= bits_for(len(rows) + n_spare):
            raise ValueError(f"2**{bits} slots do not fit {len(rows)} rows")
        limits: dict[int, int] = {}
        if k > 0:  # a token raises one count of each length by 1
            limits |= {find.PREFIX: len(tables[k - 1]), find.TOKEN: vocab_size}
            limits[find.COUNT] = position + 1
        if k < len(tables) - 1:
            limits |= {find.HINT: vocab_size, find.FOLLOWERS: position + 1}
        is_out = any(len(rows) and int(rows[:, c].max()) >= limit for c, limit in limits.items())
        mask = find.LAST_SEEN_MASK
        if is_out or (len(rows) and int((rows[:, find.LAST_SEEN] & mask).max()) > latest):
            raise ValueError(f"rows {k} have an invalid value")
