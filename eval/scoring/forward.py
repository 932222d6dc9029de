"""The forward pass: batches through the model, and the few numbers a target that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.models.base import Model
from eval.scoring.batch import Batch
from ngrammix.logits import ModelLogprobs, read_logits

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Job:
    """A batch, and what the model is to be hint_tokens.

    Attributes
    ----------
    batch : Batch
        N targets.
    hint_tokens : (N, M) int64 or None
        Tokens beside the targets, -1 for none.
    position : int
        How many targets of the stream come before, for the errors.
    """

    batch: Batch
    hint_tokens: Tokens | None
    position: int


class Forward(Protocol):
    """Whoever runs the model."""

    @property
    def width(self) -> int:
        """How many jobs it does at once."""

    def __call__(self, jobs: Sequence[Job]) -> Sequence[ModelLogprobs]:
        """What the model said of the targets of each of up to `width` jobs."""


class Local:
    """The model in this process, one job at a time."""

    width = 1

    def __init__(self, model: Model) -> None:
        self._model = model

    def __call__(self, jobs: Sequence[Job]) -> list[ModelLogprobs]:
        """See `Forward`."""
        return [run(self._model, job) for job in jobs]


def run(model: Model, job: Job) -> ModelLogprobs:
    """One job; ValueError if the logits are no numbers, or a target is impossible."""
    logits = job.batch.pick(model.logits(job.batch.inputs))
    targets = job.batch.targets
    places = np.arange(job.position, job.position + len(targets))
    return read_logits(logits, targets, places).lookup(job.hint_tokens)
