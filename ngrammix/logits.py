"""From (..., V) logits the few numbers that the mixer needs; the centre's one file with torch."""

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ngrammix.kernels import softmax

ALL = slice(None)
DEVICE_BLOCK = 1 << 26  # logits widened to float64 on the device at a time: 512 MiB

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ModelLogprobs:
    """What the model said of N positions.

    Attributes
    ----------
    log_p : (N,) float64, nats
        Log-probability of each target.
    entropy : (N,) float64, nats
        Of the model's distribution, before the target is seen.
    top : (N,) int64
        The token that the model holds most probable; of equals, the lowest.
    log_top : (N,) float64, nats
        Its log-probability.
    log_hints : (N, M) float64, nats
        Log-probability of each hint; -inf where the model gives it none, or there is no hint.
    """

    log_p: Floats
    entropy: Floats
    top: Tokens
    log_top: Floats
    log_hints: Floats

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.log_p)

    def __getitem__(self, rows: slice) -> "ModelLogprobs":
        """Some of the positions, in the same memory."""
        return ModelLogprobs(
            self.log_p[rows], self.entropy[rows], self.top[rows], self.log_top[rows],
            self.log_hints[rows],
        )  # fmt: skip


class LogitsReader(Protocol):
    """What the model said of each position, read once and found in order."""

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """What it said at these rows, of hints (N, M) too if given: in [0, V), or -1 for none."""


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


def like(logits: Any, values: Floats) -> Any:
    """Values (...) as an array, or a tensor on the same device, of the dtype of logits."""
    if not is_tensor(logits):
        return values.astype(logits.dtype)
    import torch

    return torch.from_numpy(values).to(logits.device, logits.dtype)


def read_logits(logits: Any, targets: Tokens, places: Tokens) -> LogitsReader:
    """Logits read and checked, ready to be asked for hints, which may not be known before.

    Parameters
    ----------
    logits : (N, V) float, numpy or torch on any device
        Unnormalised. On the host a row's result does not depend on the rows beside it; on CUDA it
        does as far as CUDA's own reductions do. From there one number leaves the device now, and
        5 + M a row with `LogitsReader.lookup`, all of them in one transfer.
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
        return _DeviceReader(logits, targets, places)
    return _HostReader(to_numpy(logits), targets, places)


def lookup_logprobs(
    logits: Any, targets: Tokens, places: Tokens, hints: Tokens | None = None
) -> ModelLogprobs:
    """Model log-probabilities of targets and hints (N, M); raises what `read_logits` does."""
    return read_logits(logits, targets, places).lookup(hints)


class _HostReader:
    """Logits in the host's memory: (N, V) array of any floats."""

    def __init__(self, logits: NDArray[Any], targets: Tokens, places: Tokens) -> None:
        if logits.dtype not in (np.float32, np.float64):
            logits = logits.astype(np.float32 if logits.itemsize < 4 else np.float64)
        self._logits = np.ascontiguousarray(logits)
        self._log_p, self._entropy, self._largest, self._log_total = np.empty((4, len(logits)))
        self._top = np.empty(len(logits), np.int64)
        softmax.read(
            self._logits, targets, self._log_p, self._entropy, self._largest, self._log_total,
            self._top,
        )  # fmt: skip
        check(self._largest, self._log_p, targets, places)

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`."""
        log_total = self._log_total[rows]
        hints = no_hints(len(log_total)) if hints is None else hints
        log_hints = np.empty(hints.shape)
        softmax.look_up(self._logits[rows], hints, self._largest[rows], log_total, log_hints)
        return ModelLogprobs(
            self._log_p[rows], self._entropy[rows], self._top[rows], -log_total, log_hints
        )


class _DeviceReader:
    """Logits that stay where they are: (N, V) tensor."""

    def __init__(self, logits: Any, targets: Tokens, places: Tokens) -> None:
        import torch

        self._logits = logits.detach()
        wanted = torch.from_numpy(targets).to(logits.device)
        step = max(1, DEVICE_BLOCK // logits.shape[1])
        parts = [
            _read_rows(self._logits[start : start + step], wanted[start : start + step])
            for start in range(0, max(1, len(logits)), step)
        ]
        self._numbers = torch.cat(parts)
        largest, _, log_p = self._numbers.T[:3]
        if not bool(((largest < torch.inf) & (log_p > -torch.inf)).all()):  # the one number
            check(largest.cpu().numpy(), log_p.cpu().numpy(), targets, places)

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`."""
        import torch

        numbers = self._numbers[rows]
        hints = no_hints(len(numbers)) if hints is None else hints
        asked = torch.from_numpy(hints).to(numbers.device)
        found = self._logits[rows].gather(1, asked.clamp(min=0)).to(torch.float64)
        log_hints = (found - numbers[:, :1] - numbers[:, 1:2]).masked_fill(asked < 0, -torch.inf)
        host = torch.cat([numbers, log_hints], dim=1).cpu().numpy()
        _, log_total, log_p, entropy, top = host[:, :5].T.copy()
        return ModelLogprobs(log_p, entropy, top.astype(np.int64), -log_total, host[:, 5:].copy())


class SavedReader:
    """The model's costs as someone saved them; it cannot be asked for any other token.

    Parameters
    ----------
    log_p, entropy : (N,) float64, nats
        Of the targets, and of the model's distributions: NaN where nobody knows.
    """

    def __init__(self, log_p: Floats, entropy: Floats) -> None:
        self._log_p, self._entropy = log_p, entropy

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`; every token but the target is unknown."""
        log_p = self._log_p[rows]
        shape = (len(log_p), 0) if hints is None else hints.shape
        return ModelLogprobs(
            log_p, self._entropy[rows], np.full(len(log_p), -1), np.full(len(log_p), np.nan),
            np.full(shape, np.nan),
        )  # fmt: skip


def no_hints(n_rows: int) -> Tokens:
    """(N, 0): no token but the target to be asked for."""
    return np.empty((n_rows, 0), np.int64)


def _read_rows(logits: Any, targets: Any) -> Any:
    """(N, 5) float64 tensor: largest logit, log-sum-exp above it, log p, entropy, top token.

    logits (N, V) and targets (N,) are tensors of one device; a token's id is exact as float64.
    """
    import torch

    logits = logits.to(torch.float64)
    largest, top = logits.max(dim=1)
    shifted = logits - largest[:, None]
    log_total = shifted.logsumexp(dim=1)
    log_p = shifted.gather(1, targets[:, None])[:, 0] - log_total
    weights = (shifted - log_total[:, None]).exp()
    entropy = log_total - (weights * shifted.clamp(min=-1e4)).sum(dim=1)  # 0 * -inf is 0 here
    return torch.stack([largest, log_total, log_p, entropy, top.to(torch.float64)], dim=1)


def check(largest: Floats, log_p: Floats, targets: Tokens, places: Tokens) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf, or its target impossible; (N,)."""
    check_largest(largest, places)
    impossible = ~(log_p > -np.inf)
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ValueError(
            f"the model's probability of a target must be > 0, got 0 for token {targets[i]} at "
            f"position {places[i]}; mask fewer logits, or leave the position out (ignore_index)"
        )


def check_largest(largest: Floats, places: Tokens) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf; largest, places (N,)."""
    wrong = ~(largest < np.inf)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"logits must be numbers below +inf, got {largest[i]} at position {places[i]}; "
            "look for an overflow in the model, or compute the logits in float32"
        )


def probabilities(logits_row: Any) -> tuple[Floats, LogitsReader]:
    """Softmax (V,) of one row of logits, and that row as read, on the host.

    Raises ValueError if the row holds NaN or +inf, or leaves no token possible.
    """
    row = to_numpy(logits_row)
    here = np.zeros(1, np.int64)
    largest = row.max(keepdims=True)  # NaN if one is
    check_largest(largest, here)
    if largest[0] == -np.inf:
        raise ValueError("logits must leave some token possible, got -inf everywhere; mask fewer")
    weights = np.exp(row.astype(np.float64) - largest[0])
    reader = _HostReader(row[None], row.argmax(keepdims=True), here)
    return weights / weights.sum(), reader
