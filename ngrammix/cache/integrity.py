"""Verification: the sums that make the estimators exact, and the addresses in a saved state."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.eviction import traced
from ngrammix.cache.replay import stored_chunks
from ngrammix.cache.store import NgramStore
from ngrammix.cache.table import FIRST_BITS, bits_for
from ngrammix.checks import check_capacity
from ngrammix.kernels import index
from ngrammix.kernels import integrity as kernel
from ngrammix.types import Counts, Nodes

MAX_SPARE_ROWS = 1 << 18  # rows that a saved index may have room for beyond those in use


def check_store(store: NgramStore) -> None:
    """Raise RuntimeError at the first wrong sum, and at an n-gram that no search would find."""
    for k, table in enumerate(store.tables[1:]):
        _check_keys(store, k + 1)
        rows = table.rows[: len(table)]
        has_counts = ~_is_open(rows) & rows[:, index.COUNT :].any(axis=1)
        _refuse("an n-gram that occurred once has counts", has_counts, k)
        if k > 0:
            suffixes = store.tables[k].rows[rows[:, index.SUFFIX]]
            _refuse("the suffix of an n-gram is not open", ~_is_open(suffixes), k)
    totals = [np.zeros((len(table), 4), np.uint32) for table in store.tables[:-1]]
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
        contexts, table = store.tables[k], store.tables[k + 1]
        is_open = _is_open(table.rows[: len(table)])
        if n_rows[k + 1] != np.sum(~is_open):
            raise RuntimeError(f"broken table: n-grams of {k + 1} tokens are not in the stream")
        _refuse("the prefix of an n-gram is not stored", is_open & (prefixes == index.NONE), k)
        kernel.add_open_totals(
            table.rows, len(table), prefixes, lasts, contexts.rows, totals[k]
        )  # fmt: skip
        counts = table.rows[: len(table)][is_open, index.COUNT]
        _check_totals(contexts.rows[: len(contexts)], totals[k], k)
        n1, n2 = n_once[k + 1] + np.sum(counts == 1), np.sum(counts == 2)
        _refuse("counts of counts are wrong", store.counts_of_counts[k] != [n1, n2], k)


def _check_keys(store: NgramStore, k: int) -> None:
    """Raise RuntimeError unless each k-gram is found under its key."""
    table = store.tables[k]
    found = np.empty(len(table), np.uint32)
    kernel.find_keys(table.rows, len(table), table.slots, table.bits, found)
    _refuse("an n-gram is not found under its key", found != np.arange(len(table)), k - 1)


def _check_totals(contexts: Nodes, totals: Counts, k: int) -> None:
    """Raise RuntimeError unless the open contexts of k tokens have these sums."""
    is_open = np.ones(1, np.bool_) if k == 0 else _is_open(contexts)
    for column, rule, i in (
        (index.FOLLOWERS, "followers is not the sum of counts", 0),
        (index.DISTINCT, "distinct is not the number of counts above 0", 1),
        (index.HINT_COUNT, "hint_count is not the largest count", 2),
        (index.HINT_COUNT, "the hint's count is not hint_count", 3),
    ):
        _refuse(rule, is_open & (contexts[:, column] != totals[:, i]), k)


def _is_open(rows: Nodes) -> NDArray[np.bool_]:
    """(N,): whether each n-gram occurred more than once, or was named by `update`."""
    is_open: NDArray[np.bool_] = rows[:, index.LAST_SEEN] >= index.OPEN
    return is_open


def _refuse(rule: str, is_wrong: Any, k: int) -> None:
    if np.any(is_wrong):
        raise RuntimeError(
            f"broken table: {rule}, row {np.argmax(is_wrong)}, contexts of {k} tokens"
        )


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
        bits = int(state["bits"][k])
        n_spare = MAX_SPARE_ROWS if k > 0 else 0  # the empty context has one row for good
        if not bits_for(len(rows), FIRST_BITS) <= bits <= bits_for(len(rows) + n_spare):
            raise ValueError(f"2**{bits} slots do not fit {len(rows)} rows")
        limits: dict[int, int] = {}
        if k > 0:  # a token raises one count of each length by 1
            limits |= {index.SUFFIX: len(tables[k - 1]), index.FIRST: vocab_size}
            limits[index.COUNT] = n_learned + 1
        if k < len(tables) - 1:
            limits |= {index.HINT: vocab_size, index.FOLLOWERS: n_learned + 1}
        is_out = any(len(rows) and int(rows[:, c].max()) >= limit for c, limit in limits.items())
        last_seen = rows[:, index.LAST_SEEN]
        ends = (last_seen & np.uint32(index.TIME)).astype(np.int64)
        is_once = (last_seen < index.OPEN) if k > 0 else np.zeros(1, np.bool_)
        if is_out or (ends > latest).any() or (ends[is_once] - k < kept_from).any():
            raise ValueError(f"rows {k} have an invalid value")
        node, last = (int(row[k]) for row in state["ends"])
        if k <= n_open and (
            node >= len(rows) or last > latest or not (k == 0 or last_seen[node] >= index.OPEN)
        ):
            raise ValueError(f"the context of {k} tokens has an invalid row or time")
