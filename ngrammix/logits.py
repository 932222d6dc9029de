"""From (..., V) logits the few numbers that the mixer needs; the centre's one file with torch."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import softmax

DEVICE_BLOCK = 1 << 26  # logits widened to float64 on the device at a time: 512 MiB

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the model said of N positions.

    Attributes
    ----------
    log_p : (N,) float64, nats
        Log-probability of each target.
    entropy : (N,) float64, nats
        Of the model's distribution, before the target is seen.
    """

    log_p: Floats
    entropy: Floats


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


def gather(logits: Any, targets: NDArray[np.int64], places: NDArray[np.int64]) -> Gathered:
    """Log-probability of each target and the entropy of its distribution, in float64.

    Parameters
    ----------
    logits : (N, V) float, numpy or torch on any device
        Unnormalised. On the host a row's result does not depend on the rows beside it; on CUDA it
        does as far as CUDA's own reductions do, and only three numbers a row leave the device.
    targets : (N,) int64
        In [0, V).
    places : (N,) int64
        Where each row stands in the user's array, for the errors.

    Raises
    ------
    ValueError
        If a logit is NaN or +inf, or a target's probability is 0.
    """
    if is_tensor(logits) and logits.device.type == "cuda":
        step = max(1, DEVICE_BLOCK // logits.shape[1])
        blocks = [slice(start, start + step) for start in range(0, len(logits), step)]
        parts = [_gather_on_device(logits[block], targets[block]) for block in blocks]
        log_p, entropy, largest = np.concatenate(parts, axis=1) if parts else np.empty((3, 0))
    else:
        log_p, entropy, largest = _gather_on_host(to_numpy(logits), targets)
    check_largest(largest, places)
    impossible = ~(log_p > -np.inf)
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ValueError(
            f"the model's probability of a target must be > 0, got 0 for token {targets[i]} at "
            f"position {places[i]}; mask fewer logits, or leave the position out (ignore_index)"
        )
    return Gathered(log_p, entropy)


def check_largest(largest: Floats, places: NDArray[np.int64]) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf; largest, places (N,)."""
    wrong = ~(largest < np.inf)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"logits must be numbers below +inf, got {largest[i]} at position {places[i]}; "
            "look for an overflow in the model, or compute the logits in float32"
        )


def _gather_on_host(
    logits: NDArray[Any], targets: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """(log_p, entropy, largest logit) of each row; logits (N, V)."""
    if logits.dtype not in (np.float32, np.float64):
        logits = logits.astype(np.float32 if logits.itemsize < 4 else np.float64)
    n_rows = len(logits)
    log_p, entropy, largest = np.empty(n_rows), np.empty(n_rows), np.empty(n_rows)
    softmax.gather(np.ascontiguousarray(logits), targets, log_p, entropy, largest)
    return log_p, entropy, largest


def _gather_on_device(logits: Any, targets: NDArray[np.int64]) -> Floats:
    """What `_gather_on_host` does, where the logits are: (3, N), in one transfer."""
    import torch

    logits = logits.detach().to(torch.float64)
    largest = logits.amax(dim=1)
    shifted = logits - largest[:, None]
    log_total = shifted.logsumexp(dim=1)
    index = torch.from_numpy(targets).to(logits.device)
    log_p = shifted.gather(1, index[:, None])[:, 0] - log_total
    weights = (shifted - log_total[:, None]).exp()
    entropy = log_total - (weights * shifted.clamp(min=-1e4)).sum(dim=1)  # 0 * -inf is 0 here
    found: Floats = torch.stack([log_p, entropy, largest]).cpu().numpy()
    return found


def probabilities(logits_row: Any) -> tuple[Floats, Floats]:
    """Softmax (V,) of one row of logits, and its entropy (1,), on the host.

    Raises ValueError if the row holds NaN or +inf, or leaves no token possible.
    """
    row = to_numpy(logits_row)
    _, entropy, largest = _gather_on_host(row[None], np.zeros(1, np.int64))
    check_largest(largest, np.zeros(1, np.int64))
    if largest[0] == -np.inf:
        raise ValueError("logits must leave some token possible, got -inf everywhere; mask fewer")
    weights = np.exp(row.astype(np.float64) - largest[0])
    return weights / weights.sum(), entropy
