"""The forward pass: a batch through the model, reduced to a few numbers for each target."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from eval.models.base import Model
from eval.models.logits_memory import last_logits
from eval.scoring.batch import scored_logits
from eval.types import Bools, Tokens
from ngrammix.logits import read_logits
from ngrammix.model_logprobs import ModelLogprobs, join


@dataclass(frozen=True, eq=False)
class ForwardRequest:
    """The inputs of one forward pass, and the tokens whose log-probabilities it returns.

    Attributes
    ----------
    inputs : (B, L) int64
        Padded windows.
    is_scored : (B, L) bool
        The N positions whose logits predict the targets.
    targets : (N,) int64
        Tokens that came.
    hint_tokens : (N, M) int64
        Further tokens whose log-probabilities are needed; -1: none.
    position : int
        Targets of the stream before this batch, for the error texts.
    allow_probabilities : bool
        Take rows that are probabilities for logits.
    """

    inputs: Tokens
    is_scored: Bools
    targets: Tokens
    hint_tokens: Tokens
    position: int
    allow_probabilities: bool = False


class Forward(Protocol):
    """Runs the model on one batch or on several at once."""

    @property
    def n_parallel(self) -> int:
        """Number of batches that run at the same time."""

    def __call__(self, requests: Sequence[ForwardRequest]) -> Sequence[ModelLogprobs]:
        """Log-probabilities for each of up to `n_parallel` requests, in their order."""


class LocalForward:
    """Runs the model in this process, one batch after the other."""

    n_parallel = 1

    def __init__(self, model: Model) -> None:
        self._model = model

    def __call__(self, requests: Sequence[ForwardRequest]) -> list[ModelLogprobs]:
        """Log-probabilities for each request."""
        return [run_forward(self._model, request) for request in requests]


def run_forward(model: Model, request: ForwardRequest) -> ModelLogprobs:
    """Log-probabilities of one request.

    Raises
    ------
    ValueError
        If the logits do not fit in memory, one is NaN or +inf, a target has probability 0, or the
        logits are probabilities.
    """
    parts, start = [], 0
    for logits in scored_blocks(model, request.inputs, request.is_scored):
        rows = slice(start, start + len(logits))
        positions = request.position + np.arange(rows.start, rows.stop)
        allowed = request.allow_probabilities
        with naming(model):
            reader = read_logits(
                logits, request.targets[rows], positions, allow_probabilities=allowed
            )
        parts.append(reader.lookup(request.hint_tokens[rows]))
        start = rows.stop
    return join(parts)


@contextmanager
def naming(model: Model) -> Iterator[None]:
    """Add the name of the model to the errors about its logits."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} (the model is {model.name})") from error


def scored_blocks(model: Model, inputs: Tokens, is_scored: Bools) -> Iterator[Any]:
    """Logits of the scored positions of inputs (B, L), as `scored_logits` gives them.

    Positions before the first scored one have no logits, if the model can do without.

    Raises
    ------
    ValueError
        If the logits do not fit in memory.
    """
    n_last = is_scored.shape[1] - int(np.argmax(is_scored.any(axis=0)))
    yield from scored_logits(last_logits(model, inputs, n_last), is_scored[:, -n_last:])
