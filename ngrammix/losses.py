"""Positions and reductions of `Mixer.cross_entropy`, with the meaning that torch gives them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ngrammix.checks import as_integers
from ngrammix.logits import like, to_numpy
from ngrammix.types import Flags, Floats, Tokens

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: object) -> None:
    """Raise ValueError unless `reduction` is one of torch's."""
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, got {reduction!r}; "
            'leave it out for "mean"'
        )


def check_positions(positions: ArrayLike, is_scored: Flags, next_position: int) -> None:
    """Raise ValueError unless the scored targets are the next ones of the stream, in C order.

    Parameters
    ----------
    positions : int, or (...) int
        Position in the stream of each target; or of the first one, if the others are consecutive.
    is_scored : (...) bool
        Whether each target is scored (not ignored).
    next_position : int
        Number of tokens of the stream that were scored or learned so far.
    """
    actual = as_positions(positions, is_scored)[is_scored]
    expected = next_position + np.arange(actual.size)
    wrong = actual != expected
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"position {expected[i]} must be scored next, got {actual[i]}, which was scored before;"
            " pass only targets that no earlier window scored"
            if actual[i] < expected[i]
            else f"position {expected[i]} must be scored next, got {actual[i]}; score or learn the "
            "tokens between first, in the order of the stream"
        )


def as_positions(positions: ArrayLike, is_scored: Flags) -> Tokens:
    """Positions (...) of targets (...), or of the first one, as int64 of this shape."""
    array = as_integers(to_numpy(positions), "positions", "positions")
    if array.ndim == 0:
        array = array + np.arange(is_scored.size).reshape(is_scored.shape)
    if array.shape != is_scored.shape:
        raise ValueError(
            f"positions must be one integer, or have the shape of targets {is_scored.shape}, got "
            f"{array.shape}; pass the position of each target in the stream"
        )
    return array


def reduce(nats: Floats, is_scored: Flags, reduction: str, logits: Any) -> Any:
    """Costs (...) in nats, reduced as in torch, of the type, dtype and device of `logits`.

    The sum is in float64 and rounded once. The mean over no targets is NaN, as in torch.
    """
    if reduction == "none":
        return like(logits, nats)
    total, n_scored = nats.sum(), int(is_scored.sum())
    if reduction == "mean":
        total = total / n_scored if n_scored else np.nan
    return like(logits, np.asarray(total))
