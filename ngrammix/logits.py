"""From (..., V) logits the few numbers that the mixer needs; the centre's one file with torch."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import softmax

DEVICE_BLOCK = 1 << 26  # logits widened to float64 on the device at a time: 512 MiB

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the model said of N positions.

    Attributes
    ----------
    log_p : (N,) float64, nats
        Log-probability of each target.
    entropy : (N,) float64, nats
        Of the model's distribution, before the target is seen.
    log_hints : (N, M) float64, nats
        Log-probability of each hint; -inf where the model gives it none, or there is no hint.
    """

    log_p: Floats
    entropy: Floats
    log_hints: Floats


def is_tensor(array: object) -> bool:
    """Whether this is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def to_numpy(array: Any) -> Any:
    """Return a torch tensor of any device copied to the host as an array, anything else as it is.

    Floats narrower than 32 bits are widened, which changes no value.
    """
    if not is_tensor(array):
        return array
    import torch

    array = array.detach()
    if array.dtype.is_floating_point and array.dtype not in (torch.float32, torch.float64):
        array = array.float()
    return array.cpu().numpy()


def as_logits(logits: Any) -> Any:
    """Return a torch tensor as it is, anything else as a numpy array; ValueError if no floats."""
    if is_tensor(logits):
        is_floating = logits.dtype.is_floating_point
    else:
        logits = np.asarray(logits)
        is_floating = logits.dtype.kind == "f"
    if not is_floating:
        raise ValueError(
            f"logits must be floating point, got dtype {logits.dtype}; "
            "pass the model's output before any rounding"
        )
    return logits


def gather(logits: Any, targets: Tokens, places: Tokens, hints: Tokens | None = None) -> Gathered:
    """Log-probability of each target and hint and the entropy of its distribution, in float64.

    Parameters
    ----------
    logits : (N, V) float, numpy or torch on any device
        Unnormalised. On the host a row's result does not depend on the rows beside it; on CUDA it
        does as far as CUDA's own reductions do, and only 3 + M numbers a row leave the device, all
        of them in one transfer.
    targets : (N,) int64
        In [0, V).
    places : (N,) int64
        Where each row stands in the user's array, for the errors.
    hints : (N, M) int64, optional
        More tokens to ask each row for, in [0, V), or -1 for none; without them M is 0.

    Raises
    ------
    ValueError
        If a logit is NaN or +inf, or a target's probability is 0.
    """
    if hints is None:
        hints = np.empty((len(targets), 0), np.int64)
    on_device = is_tensor(logits) and logits.device.type == "cuda"
    log_p, entropy, largest, log_hints = (
        _gather_on_device(logits, targets, hints)
        if on_device
        else _gather_on_host(to_numpy(logits), targets, hints)
    )
    check_largest(largest, places)
    impossible = ~(log_p > -np.inf)
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ValueError(
            f"the model's probability of a target must be > 0, got 0 for token {targets[i]} at "
            f"position {places[i]}; mask fewer logits, or leave the position out (ignore_index)"
        )
    return Gathered(log_p, entropy, log_hints)


def check_largest(largest: Floats, places: Tokens) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf; largest, places (N,)."""
    wrong = ~(largest < np.inf)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"logits must be numbers below +inf, got {largest[i]} at position {places[i]}; "
            "look for an overflow in the model, or compute the logits in float32"
        )


def _gather_on_host(
    logits: NDArray[Any], targets: Tokens, hints: Tokens
) -> tuple[Floats, Floats, Floats, Floats]:
    """(log_p, entropy, largest logit, log_hints) of each row; logits (N, V), hints (N, M)."""
    if logits.dtype not in (np.float32, np.float64):
        logits = logits.astype(np.float32 if logits.itemsize < 4 else np.float64)
    log_p, entropy, largest = np.empty((3, len(logits)))
    log_hints = np.empty(hints.shape)
    softmax.gather(np.ascontiguousarray(logits), targets, hints, log_p, entropy, largest, log_hints)
    return log_p, entropy, largest, log_hints


def _gather_on_device(
    logits: Any, targets: Tokens, hints: Tokens
) -> tuple[Floats, Floats, Floats, Floats]:
    """What `_gather_on_host` does, where the logits are; all results come in one transfer."""
    import torch

    logits = logits.detach()
    asked = torch.from_numpy(np.column_stack([targets, hints])).to(logits.device)
    step = max(1, DEVICE_BLOCK // logits.shape[1])
    parts = [
        _ask_rows(logits[start : start + step], asked[start : start + step])
        for start in range(0, max(1, len(logits)), step)
    ]
    found = torch.cat(parts).cpu().numpy()
    entropy, largest, log_p = found[:, :3].T.copy()
    return log_p, entropy, largest, found[:, 3:].copy()


def _ask_rows(logits: Any, asked: Any) -> Any:
    """(N, 2 + A) float64 tensor: entropy, largest logit, log-probability of each token asked for.

    logits (N, V) and asked (N, A) int64, -1 for none, are tensors of one device.
    """
    import torch

    logits = logits.to(torch.float64)
    largest = logits.amax(dim=1)
    shifted = logits - largest[:, None]
    log_total = shifted.logsumexp(dim=1)
    log_asked = shifted.gather(1, asked.clamp(min=0)) - log_total[:, None]
    weights = (shifted - log_total[:, None]).exp()
    entropy = log_total - (weights * shifted.clamp(min=-1e4)).sum(dim=1)  # 0 * -inf is 0 here
    log_asked = log_asked.masked_fill(asked < 0, -torch.inf)
    return torch.cat([torch.stack([entropy, largest], dim=1), log_asked], dim=1)


def probabilities(logits_row: Any) -> tuple[Floats, Floats]:
    """Softmax (V,) of one row of logits, and its entropy (1,), on the host.

    Raises ValueError if the row holds NaN or +inf, or leaves no token possible.
    """
    row = to_numpy(logits_row)
    here = np.zeros(1, np.int64)
    _, entropy, largest, _ = _gather_on_host(row[None], here, np.empty((1, 0), np.int64))
    check_largest(largest, here)
    if largest[0] == -np.inf:
        raise ValueError("logits must leave some token possible, got -inf everywhere; mask fewer")
    weights = np.exp(row.astype(np.float64) - largest[0])
    return weights / weights.sum(), entropy
