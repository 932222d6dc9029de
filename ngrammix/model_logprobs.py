"""ModelLogprobs: the few numbers of the model that the mixer needs at each position."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ngrammix.checks import MAX_NATS
from ngrammix.observed import Observed, check_observed
from ngrammix.types import Floats, Tokens

N_NUMBERS = 4  # of a position, beside its hints
ROUNDING = 1e-3  # nats: a log-probability computed in low precision may exceed 0 by so much


@dataclass(frozen=True, eq=False)
class ModelLogprobs:
    """The model's log-probabilities at N positions, as far as the mixer needs them.

    Attributes
    ----------
    log_p : (N,) float64, nats
        Log-probability of each target.
    entropy : (N,) float64, nats
        Entropy of the model's distribution.
    top : (N,) int64
        The model's most probable token; of equal ones, the smallest id.
    log_top : (N,) float64, nats
        Log-probability of `top`.
    log_hints : (N, M) float64, nats
        Log-probability of each hint; -inf if its probability is 0, and where there is no hint.
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
        """Return a view of some positions."""
        return ModelLogprobs(
            self.log_p[rows], self.entropy[rows], self.top[rows], self.log_top[rows],
            self.log_hints[rows],
        )  # fmt: skip


def check_logprobs(logprobs: ModelLogprobs, observed: Observed, next_position: int) -> None:
    """Raise ValueError unless these are numbers of `observed`, the next batch to score.

    The kernels read as many numbers as `observed` has hints, and a NaN would stay in their weights.
    """
    check_observed(observed, len(logprobs), next_position)
    n, hints = len(observed), observed.hint_tokens
    columns = {"log_p": logprobs.log_p, "entropy": logprobs.entropy}
    if hints is not None:
        columns |= {"log_top": logprobs.log_top, "log_hints": logprobs.log_hints}
    for name, array in columns.items():
        shape = (n,) if name != "log_hints" or hints is None else hints.shape
        if array.dtype != np.float64 or array.shape != shape:
            raise ValueError(
                f"{name} must be float64 of shape {shape}, got {array.dtype} of shape "
                f"{array.shape}; look up observed.tokens and observed.hint_tokens"
            )
        # NaN is neither; only an entropy may be unknown.
        if name != "entropy" and array.size and not array.max() <= ROUNDING:
            raise ValueError(
                f"{name} must be log-probabilities <= 0, got {array.max()} from position "
                f"{observed.position} on; they are in nats, and negative"
            )
    if n and not logprobs.log_p.min() > -MAX_NATS:
        raise ValueError(
            "the model's probability of a target must be > 0, got 0 at position "
            f"{observed.position + int(logprobs.log_p.argmin())}; mask fewer logits"
        )


def join(parts: Sequence[ModelLogprobs]) -> ModelLogprobs:
    """The log-probabilities of several blocks of positions as one."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return ModelLogprobs(*map(np.concatenate, columns))


def pack(logprobs: ModelLogprobs) -> Floats:
    """(N, 4 + M) float64 of log-probabilities, to send; token ids are exact as float64."""
    columns = (logprobs.log_p, logprobs.entropy, logprobs.log_top, logprobs.top)
    return np.column_stack([*columns, logprobs.log_hints])


def unpack(array: Floats) -> ModelLogprobs:
    """The log-probabilities that `pack` packed."""
    log_p, entropy, log_top, top = array[:, :N_NUMBERS].T.copy()
    hints = array[:, N_NUMBERS:].copy()
    return ModelLogprobs(log_p, entropy, top.astype(np.int64), log_top, hints)
