"""Losses as torch's `cross_entropy` gives them: which positions count, and how they are summed."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix.checks import as_integers
from ngrammix.logits import as_logits, like, to_numpy

REDUCTIONS = ("none", "mean", "sum")

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


def as_targets(targets: ArrayLike) -> Tokens:
    """Return targets of any shape as int64, or raise ValueError if there are none."""
    ids = as_integers(to_numpy(targets), "targets")
    if ids.size == 0:
        raise ValueError("targets must hold at least one token, got none; skip empty batches")
    return ids


def as_pair(logits: Any, targets: ArrayLike, vocab_size: int) -> tuple[Any, Tokens]:
    """Logits (..., V) as tensor or array and targets (...) as int64, or ValueError."""
    ids = as_targets(targets)
    logits = as_logits(logits)
    shape = (*ids.shape, vocab_size)
    if tuple(logits.shape) != shape:
        raise ValueError(
            f"logits must have shape {shape}, that of targets and then vocab_size, "
            f"got {tuple(logits.shape)}; make vocab_size the width of the model's output"
        )
    return logits, ids


def check_reduction(reduction: object) -> None:
    """Raise ValueError unless it is one of torch's."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}; "
            'leave it out for "mean"'
        )


def check_positions(positions: ArrayLike, is_scored: NDArray[np.bool_], position: int) -> None:
    """Raise ValueError unless the scored targets are the next ones of the stream, in C order.

    Parameters
    ----------
    positions : int, or (...) int
        Place in the stream of each target, or of the first one, whom the others follow.
    is_scored : (...) bool
        Which of the targets count.
    position : int
        How many tokens of the stream were scored or learned so far.
    """
    places = as_integers(to_numpy(positions), "positions", "places")
    if places.ndim == 0:
        places = places + np.arange(is_scored.size).reshape(is_scored.shape)
    if places.shape != is_scored.shape:
        raise ValueError(
            f"positions must be one integer, or have the shape of targets {is_scored.shape}, got "
            f"{places.shape}; give the place of each target in the stream"
        )
    given = places[is_scored]
    due = position + np.arange(given.size)
    wrong = given != due
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"position {due[i]} must be scored next, got {given[i]}, which was scored before; "
            "give only the targets that no earlier window scored"
            if given[i] < due[i]
            else f"position {due[i]} must be scored next, got {given[i]}; score or learn the "
            "tokens between first, in the order of the stream"
        )


def reduce(nats: Floats, is_scored: NDArray[np.bool_], reduction: str, logits: Any) -> Any:
    """Costs (...) in nats as torch reduces them, of the kind, dtype and device of logits.

    Summed in float64 and rounded once. The mean of no target is NaN, as torch's.
    """
    if reduction == "none":
        return like(logits, nats)
    total, n_scored = nats.sum(), int(is_scored.sum())
    if reduction == "mean":
        total = total / n_scored if n_scored else np.nan
    return like(logits, np.asarray(total))
