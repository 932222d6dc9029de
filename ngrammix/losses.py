"""Positions and reductions of `Mixer.cross_entropy`, with the meaning that torch gives them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ngrammix.checks import as_integers
from ngrammix.logits import like, to_numpy
from ngrammix.types import Flags, Floats, Tokens

REDUCTIONS = ("none", "mean", "sum")
REQUIRED = object()
# Options of torch's function: the value that changes nothing, and what to do instead of another.
TORCH_OPTIONS: dict[str, tuple[Any, str]] = {
    "input": (REQUIRED, ""),
    "target": (REQUIRED, ""),
    "weight": (None, "a weighted mean is no number of bits: leave it out"),
    "label_smoothing": (0.0, "a smoothed loss is no number of bits: leave it out"),
    "size_average": (None, "it is torch's old name for reduction: pass that"),
    "reduce": (None, "it is torch's old name for reduction: pass that"),
}


def named_arguments(logits: Any, targets: Any, others: Mapping[str, Any]) -> tuple[Any, Any]:
    """Logits and targets, also under the names that torch gives them, ``input`` and ``target``.

    ValueError if one is missing or given twice, or torch's other options are used; TypeError if
    torch has no option of that name.
    """
    for name, value in others.items():
        if name not in TORCH_OPTIONS:
            raise TypeError(f"cross_entropy() got an unexpected keyword argument {name!r}")
        neutral, mend = TORCH_OPTIONS[name]
        if neutral is not REQUIRED and value is not None and (neutral is None or value != neutral):
            raise ValueError(f"{name} must be {neutral}, got {value!r}; {mend}")
    found = []
    for name, alias, value in (("logits", "input", logits), ("targets", "target", targets)):
        given = [v for v in (value, others.get(alias)) if v is not None]
        if len(given) != 1:
            raise ValueError(
                f"{name} must be given once, got {'both' if given else 'neither'} {name} and "
                f"{alias}; {alias} is torch's name for {name}"
            )
        found += given
    return found[0], found[1]


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
