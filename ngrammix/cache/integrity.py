"""Verification: the sums that make the estimators exact, and the addresses in a saved state."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.eviction import traced
from ngrammix.cache.replay import stored_chunks
from ngrammix.cache.store import NgramStore
from ngrammix.cache.table import UNITS_A_ROW, Table, bits_for
from ngrammix.checks import check_capacity
from ngrammix.kernels import index
from ngrammix.kernels import integrity as kernel
from ngrammix.kernels.rows import count_free, list_rows
from ngrammix.types import Counts, Nodes

MAX_SPARE_ROWS = 1 << 18  # rows that a saved index may have room for beyond those in use


def check_store(store: NgramStore) -> None:
    """Raise RuntimeError at the first wrong sum, and at an n-gram that no search would find."""
    heads_of = [table.list_rows() for table in store.tables]
    for k, (table, heads) in enumerate(zip(store.tables[1:], heads_of[1:], strict=True)):
        _check_keys(table, heads, k)
        first_units = table.rows[heads]
        has_counts = ~_is_open(first_units) & (first_units[:, index.COUNT] > 0)
        _refuse("an n-gram that occurred once has counts", has_counts, heads, k)
        if k > 0:
            suffixes = store.tables[k].rows[first_units[:, index.SUFFIX]]
            _refuse("the suffix of an n-gram is not open", ~_is_open(suffixes), heads, k)
    totals = [np.zeros((table.n_units, 4), np.uint32) for table in store.tables[:-1]]
    n_once, n_rows = np.zeros((2, store.order + 1), np.int64)
    stream = store.stream
    n_before = 0
    for chunk in stored_chunks(store, stream.index(stream.first), stream.index(stream.stop)):
        n_before = kernel.tally(
            stream.array, chunk.begin, stream.base, chunk.n_tokens, n_before, chunk.grams,
            chunk.known, chunk.shortest, store.columns.rows, tuple(totals), n_once, n_rows,
        )  # fmt: skip
        if n_before < 0:
            raise RuntimeError("broken table: an n-gram of the stream is not where it occurred")
    if n_before != stream.n_context and stream.n_context > 0:
        raise RuntimeError("broken table: the stream's context has another length")
    for k, (prefixes, lasts) in enumerate(traced(store)):
        contexts, table, heads = store.tables[k], store.tables[k + 1], heads_of[k + 1]
        is_open = _is_open(table.rows[heads])
        if n_rows[k + 1] != np.sum(~is_open):
            raise RuntimeError(f"broken table: n-grams of {k + 1} tokens are not in the stream")
        has_none = is_open & (prefixes[heads] == index.NONE)
        _refuse("the prefix of an n-gram is not stored", has_none, heads, k)
        kernel.add_open_totals(
            table.rows, table.n_units, prefixes, lasts, contexts.rows, totals[k]
        )  # fmt: skip
        counts = table.rows[heads[is_open], index.COUNT]
        _check_totals(contexts.rows, heads_of[k], totals[k], k)
        n1, n2 = n_once[k + 1] + np.sum(counts == 1), np.sum(counts == 2)
        if (store.counts_of_counts[k] != [n1, n2]).any():
            raise RuntimeError(f"broken table: counts of counts are wrong, contexts of {k} tokens")


def _check_keys(table: Table, heads: Nodes, k: int) -> None:
    """Raise RuntimeError unless each (k + 1)-gram is found under its key."""
    found = np.empty(len(heads), np.uint32)
    kernel.find_keys(table.rows, heads, table.slots, table.bits, found)
    _refuse("an n-gram is not found under its key", found != heads, heads, k)


def _check_totals(contexts: Nodes, heads: Nodes, totals: Counts, k: int) -> None:
    """Raise RuntimeError unless the open contexts of k tokens have these sums."""
    heads = heads[_is_open(contexts[heads])]
    followers, totals = contexts[heads + np.uint32(1)], totals[heads]
    for column, rule, i in (
        (index.FOLLOWERS, "followers is not the sum of counts", 0),
        (index.DISTINCT, "distinct is not the number of counts above 0", 1),
        (index.HINT_COUNT, "hint_count is not the largest count", 2),
        (index.HINT_COUNT, "the hint's count is not hint_count", 3),
    ):
        _refuse(rule, followers[:, column] != totals[:, i], heads, k)


def _is_open(rows: Nodes) -> NDArray[np.bool_]:
    """(N,): whether each n-gram occurred more than once, or was named by `update`."""
    is_open: NDArray[np.bool_] = rows[:, index.LAST_SEEN] >= index.OPEN
    return is_open


def _refuse(rule: str, is_wrong: NDArray[np.bool_], heads: Nodes, k: int) -> None:
    if is_wrong.any():
        row = heads[is_wrong.argmax()]
        raise RuntimeError(f"broken table: {rule}, row {row}, contexts of {k} tokens")


def check_state(
    empty: Mapping[str, NDArray[Any]],
    state: Mapping[str, NDArray[Any]],
    vocab_size: int,
    position: int,
) -> None:
    """Raise ValueError unless `state` has the arrays of `empty` and every address is valid.

    empty, state: what `NgramCache` saves; tables and the stream may have different lengths. This
    verifies what the kernels use as an address; `check_store` verifies the sums.
    """
    if type(position) is not int or position < 0:
        raise ValueError(f"position must be an integer >= 0, got {position!r}")
    if empty.keys() != state.keys():
        raise ValueError(f"arrays must be {sorted(empty)}, got {sorted(state)}")
    for name, expected in empty.items():
        has_any_length = name == "stream" or (name.startswith("rows ") and name != "rows 0")
        length = state[name].shape[:1] if has_any_length else expected.shape[:1]
        shape = (*length, *expected.shape[1:])
        if state[name].dtype != expected.dtype or state[name].shape != shape:
            raise ValueError(f"{name} has the wrong shape or dtype")
    for name in ("sweeps", "forgotten", "updates", "context", "open"):
        if (state[name] < 0).any():
            raise ValueError(f"{name} must be >= 0")
    check_capacity(0, position)
    check_capacity(position, int(state["updates"][0]))
    _check_stream(state, vocab_size, position)
    _check_rows(state, vocab_size, position)


def _check_stream(state: Mapping[str, NDArray[Any]], vocab_size: int, position: int) -> None:
    """Raise ValueError unless the stored tokens, and where their documents begin, are valid."""
    stream, n_context = state["stream"], int(state["context"][0])
    if len(stream) > position or n_context > len(stream):
        raise ValueError(f"the stream must have at most {position} tokens, and hold its context")
    starts = np.flatnonzero(stream >= index.START)
    if (stream & np.uint32(index.TOKEN) >= vocab_size).any():
        raise ValueError("the stream has an invalid token")
    if len(stream) > 0 and (
        starts[:1].tolist() != [0] or (n_context > 0 and len(stream) - starts[-1] != n_context)
    ):
        raise ValueError("the stream begins no document where its context does")


def _check_rows(state: Mapping[str, NDArray[Any]], vocab_size: int, position: int) -> None:
    """Raise ValueError unless every row of the tables, and of the context, is a valid address."""
    tables = [state[f"rows {k}"] for k in range(state["bits"].size)]
    n_open, n_learned = int(state["open"][0]), position + int(state["updates"][0])
    if n_open > min(len(tables) - 1, int(state["context"][0])):
        raise ValueError(f"the context of {n_open} tokens has an invalid length")
    latest = position + index.BEFORE_FIRST
    kept_from = latest - len(state["stream"])  # time of the first token
    for k, rows in enumerate(tables):
        bits, is_longest = int(state["bits"][k]), k == len(tables) - 1
        heads = np.empty(len(rows), np.uint32)
        n_rows = list_rows(rows, len(rows), is_longest, heads)
        heads = heads[: max(n_rows, 0)]
        first_units = rows[heads]
        is_open = _is_open(first_units)
        n_second_units = 0 if is_longest else np.sum(is_open)
        n_free = count_free(rows, len(rows), int(state["free"][k]))
        if n_rows < 0 or n_free != len(rows) - n_rows - n_second_units:
            raise ValueError(f"rows {k} have an invalid layout")
        n_spare = MAX_SPARE_ROWS if k > 0 else 0  # the empty context has one row for good
        most = bits_for(n_rows + n_spare, len(rows) + UNITS_A_ROW * n_spare)
        if not bits_for(n_rows, len(rows)) <= bits <= most:
            raise ValueError(f"2**{bits} slots do not fit {n_rows} rows")
        followers = rows[:0] if is_longest else rows[heads[is_open] + np.uint32(1)]
        limits = [(followers, index.HINT, vocab_size), (followers, index.FOLLOWERS, n_learned + 1)]
        if k > 0:  # a token raises one count of each length by 1
            limits += [(first_units, index.SUFFIX, len(tables[k - 1]))]
            limits += [(first_units, index.FIRST, vocab_size)]
            limits += [(first_units, index.COUNT, n_learned + 1)]
        is_out = any(len(units) and int(units[:, c].max()) >= limit for units, c, limit in limits)
        ends = (first_units[:, index.LAST_SEEN] & np.uint32(index.TIME)).astype(np.int64)
        if is_out or (ends > latest).any() or (ends[~is_open] - k < kept_from).any():
            raise ValueError(f"rows {k} have an invalid value")
        node, last = (int(row[k]) for row in state["ends"])
        if k <= n_open and (node not in heads[is_open] or last > latest):
            raise ValueError(f"the context of {k} tokens has an invalid row or time")
