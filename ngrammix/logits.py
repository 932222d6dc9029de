"""Read the log-probabilities that the mixer needs from logits, arrays or tensors of torch."""

import math
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ngrammix import device_rows
from ngrammix.checks import MAX_NATS, as_integers
from ngrammix.distributions import are_probabilities
from ngrammix.kernels import softmax
from ngrammix.model_logprobs import ModelLogprobs
from ngrammix.types import Floats, Tokens

ALL = slice(None)
HOST_BLOCK = 1 << 22  # logits that the host converts to float32 at once: 16 MiB
N_FIRST = 64  # logits of a row that are looked at first


class LogitsReader(Protocol):
    """The model's log-probabilities at N positions, read in one pass over the logits."""

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """Log-probabilities at `rows`, and those of hints (n_rows, M): in [0, V), -1 for none."""


def is_tensor(array: object) -> bool:
    """Whether this is a torch tensor; it does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def to_numpy(array: Any) -> Any:
    """Copy a torch tensor from any device into a numpy array; return anything else unchanged.

    Floats below 32 bits are converted to float32, which is exact.
    """
    if not is_tensor(array):
        return array
    import torch

    array = array.detach()
    if array.dtype.is_floating_point and array.dtype not in (torch.float32, torch.float64):
        array = array.float()
    return array.cpu().numpy()


def as_logits(logits: Any) -> Any:
    """Return a tensor unchanged, anything else as an array; ValueError unless floating point."""
    if is_tensor(logits):
        is_floating = logits.dtype.is_floating_point
    else:
        logits = np.asarray(logits)
        is_floating = logits.dtype.kind == "f"
    if not is_floating:
        raise ValueError(
            f"logits must be floating point, got dtype {logits.dtype}; "
            "pass the model's output unquantized"
        )
    return logits


def as_logits_row(logits_row: Any, vocab_size: int) -> Any:
    """Logits (V,) as tensor or array; ValueError unless they are floats of this shape."""
    logits_row = as_logits(logits_row)
    if tuple(logits_row.shape) != (vocab_size,):
        raise ValueError(
            f"logits_row must have shape ({vocab_size},), got {tuple(logits_row.shape)}; "
            "pass the row of one position"
        )
    return logits_row


def as_targets(targets: ArrayLike) -> Tokens:
    """Return targets of any shape as int64; ValueError if not integers, or none."""
    ids = as_integers(to_numpy(targets), "targets")
    if ids.size == 0:
        raise ValueError("targets must hold at least one token, got none; skip empty batches")
    return ids


def as_logits_and_targets(logits: Any, targets: ArrayLike, vocab_size: int) -> tuple[Any, Tokens]:
    """Logits (..., V) as tensor or array and targets (...) as int64; ValueError if they differ."""
    ids = as_targets(targets)
    logits = as_logits(logits)
    shape = (*ids.shape, vocab_size)
    if tuple(logits.shape) != shape:
        raise ValueError(
            f"logits must have shape {shape}, the shape of targets and then vocab_size, "
            f"got {tuple(logits.shape)}; {shape_mend(tuple(logits.shape), ids.shape, vocab_size)}"
        )
    return logits, ids


def scored_rows(logits: Any, positions: Tokens) -> Any:
    """Rows (N, V) of logits (..., V) at flat `positions` (N,); not copied if these are all."""
    rows = logits.reshape(-1, logits.shape[-1])
    return rows if len(positions) == len(rows) else rows[positions]


def shape_mend(shape: tuple[int, ...], targets: tuple[int, ...], vocab_size: int) -> str:
    """What to do about logits of this shape for targets (..., T): the usual mistakes have names."""
    *before, n_targets = targets or (1,)
    flat = math.prod(targets)
    if vocab_size in shape[-2:-1] and shape == (*before, vocab_size, n_targets):
        return "the vocabulary is the last axis here: leave out the transpose"
    if shape[-1:] != (vocab_size,):
        return "set vocab_size to the width of the model's output"
    if n_targets > 2 and shape[:-1] in ((*before, 1), tuple(before)):
        return (
            "these are of the last position alone, as nanoGPT returns them without targets: call "
            "model(x, y), or ask the model for all positions"
        )
    if shape[:-1] == (*before, n_targets + 1):
        return "the last row is for a token that has no target: pass logits[..., :-1, :]"
    if shape[:-1] == (*before, n_targets - 1):
        return "targets begin with the first input, as labels often do: pass targets[..., 1:]"
    if math.prod(shape[:-1]) == flat:
        return "flatten both or neither: logits.view(-1, V) and targets.view(-1)"
    return "pass the row of each target, and no others"


def like(logits: Any, values: Floats) -> Any:
    """Return values (...) as an array or tensor of the dtype and on the device of `logits`."""
    if not is_tensor(logits):
        return values.astype(logits.dtype)
    import torch

    return torch.from_numpy(values).to(logits.device, logits.dtype)


def read_logits(
    logits: Any, targets: Tokens, positions: Tokens, *, allow_probabilities: bool = False
) -> LogitsReader:
    """Read and check logits; hints can be looked up later, once they are known.

    Parameters
    ----------
    logits : (N, V) float, numpy or torch on any device
        Unnormalized. They are kept, and not copied if they are contiguous; narrow ones are widened
        a block at a time. On the host, the result of a row does not depend on the other rows; on
        CUDA it can, as CUDA's reductions can. A CUDA tensor stays on its device: reading transfers
        one number and the first 64 logits, `LogitsReader.lookup` 5 + M numbers a row, all at once.
    targets : (N,) int64
        Token ids in [0, V).
    positions : (N,) int64
        Position of each row in the user's array, for error texts.
    allow_probabilities : bool
        Take rows that are probabilities for logits, instead of raising an error.

    Raises
    ------
    ValueError
        If a logit is NaN or +inf, the probability of a target is 0, or all rows are probabilities.
    """
    reader: LogitsReader
    if is_tensor(logits) and logits.device.type == "cuda":
        reader = _DeviceReader(logits, targets, positions)
    else:
        reader = _HostReader(logits, targets, positions)
    if not allow_probabilities:
        check_no_probabilities(logits, positions)
    return reader


def lookup_logprobs(
    logits: Any, targets: Tokens, positions: Tokens, hints: Tokens | None = None
) -> ModelLogprobs:
    """Model log-probabilities of targets (N,) and hints (N, M), probabilities taken as logits."""
    return read_logits(logits, targets, positions, allow_probabilities=True).lookup(hints)


def check_no_probabilities(logits: Any, positions: Tokens) -> None:
    """Raise ValueError if all rows of logits (N, V), at `positions` (N,), are probabilities."""
    # Nearly always one of the first logits is negative, and no row is read as a whole.
    if len(positions) == 0 or to_numpy(logits[0, :N_FIRST]).min() < 0:
        return
    if are_probabilities(_growing_blocks(logits)):
        raise ValueError(
            "logits must not be normalized, got rows that are >= 0 and sum to 1 at positions "
            f"{positions[0]} to {positions[-1]}, as probabilities do; pass the logits, or "
            "log(probabilities), or set allow_probabilities if these are logits"
        )


def _growing_blocks(logits: Any) -> Iterator[NDArray[Any]]:
    """Blocks of 1, 2, 4, ... rows of logits (N, V), as arrays."""
    start = 0
    while start < len(logits):
        yield to_numpy(logits[start : 2 * start + 1])
        start = 2 * start + 1


class _HostReader:
    """Reads logits in host memory: (N, V) array or tensor of any floating point dtype."""

    def __init__(self, logits: Any, targets: Tokens, positions: Tokens) -> None:
        if is_tensor(logits):
            logits = logits.detach()
        self._logits = as_floats(logits) if is_ready(logits) else logits
        n_rows, vocab_size = logits.shape
        self._log_p, self._entropy, self._largest, self._log_total = np.empty((4, n_rows))
        self._top = np.empty(n_rows, np.int64)
        step = max(1, HOST_BLOCK // vocab_size)
        for start in range(0, n_rows, step):
            rows = slice(start, start + step)
            softmax.read(
                as_floats(self._logits[rows]), targets[rows], self._log_p[rows],
                self._entropy[rows], self._largest[rows], self._log_total[rows], self._top[rows],
            )  # fmt: skip
        check_rows(self._largest, self._log_p, targets, positions)

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`."""
        log_total = self._log_total[rows]
        hints = no_hints(len(log_total)) if hints is None else hints
        log_hints = np.empty(hints.shape)
        logits = self._logits[rows]
        if not is_ready(logits):  # convert the logits of the hints alone
            logits = as_floats(pick(logits, hints.clip(min=0)))
            hints = np.where(hints < 0, -1, np.arange(hints.shape[1]))
        softmax.look_up(logits, hints, self._largest[rows], log_total, log_hints)
        return ModelLogprobs(
            self._log_p[rows], self._entropy[rows], self._top[rows], -log_total, log_hints
        )


def is_ready(logits: Any) -> bool:
    """Whether the kernels can read host logits as they are: contiguous float32 or float64."""
    if is_tensor(logits):
        wide = str(logits.dtype) in ("torch.float32", "torch.float64")
        return wide and logits.is_contiguous() and logits.device.type == "cpu"
    return logits.dtype in (np.float32, np.float64) and bool(logits.flags.c_contiguous)


def as_floats(logits: Any) -> NDArray[Any]:
    """Host logits as a contiguous float32 or float64 array; a copy unless they are one."""
    array = to_numpy(logits)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.itemsize < 4 else np.float64)
    return np.ascontiguousarray(array)


def pick(logits: Any, tokens: Tokens) -> Any:
    """Logits (N, M) of tokens (N, M); logits (N, V), array or tensor on the host."""
    if not is_tensor(logits):
        return np.take_along_axis(logits, tokens, axis=1)
    import torch

    return logits.gather(1, torch.from_numpy(tokens).to(logits.device))


class _DeviceReader:
    """Reads logits on their device: (N, V) tensor."""

    def __init__(self, logits: Any, targets: Tokens, positions: Tokens) -> None:
        import torch

        self._logits = logits.detach()
        self._rows = device_rows.read(self._logits, torch.from_numpy(targets).to(logits.device))
        largest, _, log_p = self._rows.T[:3]
        if not bool(((largest < torch.inf) & (log_p > -MAX_NATS)).all()):  # transfers one number
            check_rows(largest.cpu().numpy(), log_p.cpu().numpy(), targets, positions)

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`."""
        import torch

        read = self._rows[rows]
        hints = no_hints(len(read)) if hints is None else hints
        on_device = torch.from_numpy(hints).to(read.device)
        logits = self._logits[rows].gather(1, on_device.clamp(min=0)).to(torch.float64)
        log_hints = (logits - read[:, :1] - read[:, 1:2]).masked_fill(on_device < 0, -torch.inf)
        host = torch.cat([read, log_hints], dim=1).cpu().numpy()
        _, log_total, log_p, entropy, top = host[:, :5].T.copy()
        return ModelLogprobs(log_p, entropy, top.astype(np.int64), -log_total, host[:, 5:].copy())


class SavedReader:
    """Reads saved losses of the model: log-probabilities of the targets alone.

    Parameters
    ----------
    log_p : (N,) float64, nats
        Log-probabilities of the targets.
    entropy : (N,) float64, nats
        Entropies of the model's distributions; NaN if unknown.
    """

    def __init__(self, log_p: Floats, entropy: Floats) -> None:
        self._log_p, self._entropy = log_p, entropy

    def lookup(self, hints: Tokens | None = None, rows: slice = ALL) -> ModelLogprobs:
        """See `LogitsReader`; the log-probabilities of other tokens are NaN, their ids -1."""
        log_p = self._log_p[rows]
        shape = (len(log_p), 0) if hints is None else hints.shape
        return ModelLogprobs(
            log_p, self._entropy[rows], np.full(len(log_p), -1), np.full(len(log_p), np.nan),
            np.full(shape, np.nan),
        )  # fmt: skip


def no_hints(n_rows: int) -> Tokens:
    """(n_rows, 0) int64: no hints."""
    return np.empty((n_rows, 0), np.int64)


def check_rows(largest: Floats, log_p: Floats, targets: Tokens, positions: Tokens) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf, or p(target) is 0; all (N,)."""
    check_largest(largest, positions)
    impossible = ~(log_p > -MAX_NATS)  # -inf, or a mask as large as numpy's finfo.min
    if impossible.any():
        i = int(np.argmax(impossible))
        raise ValueError(
            f"the model's probability of a target must be > 0, got 0 for token {targets[i]} at "
            f"position {positions[i]}; mask fewer logits, or ignore the position (ignore_index)"
        )


def check_largest(largest: Floats, positions: Tokens) -> None:
    """Raise ValueError if a row's largest logit is NaN or +inf; largest, positions (N,)."""
    wrong = ~(largest < np.inf)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"logits must be numbers below +inf, got {largest[i]} at position {positions[i]}; "
            "look for an overflow in the model, or compute the logits in float32"
        )


def probabilities(logits_row: Any) -> tuple[Floats, LogitsReader]:
    """Softmax (V,) of one row of logits (V,), and the reader of this row.

    Raises ValueError if a logit is NaN or +inf, or all are -inf.
    """
    row = to_numpy(logits_row)
    position = np.zeros(1, np.int64)
    largest = row.max(keepdims=True)  # NaN if any logit is NaN
    check_largest(largest, position)
    if largest[0] == -np.inf:
        raise ValueError(
            "logits_row must give some token a probability > 0, got -inf everywhere; mask fewer"
        )
    with np.errstate(over="ignore"):  # a difference beyond float64 is -inf, a probability of 0
        weights = np.exp(row.astype(np.float64) - largest[0])
    reader = _HostReader(row[None], row.argmax(keepdims=True), position)
    return weights / weights.sum(), reader
