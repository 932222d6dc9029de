"""Batches: windows that go through the model together, padded at the right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.windows import Window
from ngrammix.logits import is_tensor

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows side by side, and their targets in stream order.

    Attributes
    ----------
    inputs : (B, L) int64
        What the model reads. Shorter windows end in a token that nobody scores: a causal model
        does not see it from the positions before.
    is_scored : (B, L) bool
        Where the N logits are that count; the order of rows is that of the stream.
    new : B TokenizedPiece
        The targets, N in all.
    """

    inputs: Tokens
    is_scored: NDArray[np.bool_]
    new: Sequence[TokenizedPiece]

    @cached_property
    def targets(self) -> Tokens:
        """(N,) int64, put together once: every step asks for them."""
        return np.concatenate([piece.tokens for piece in self.new])

    def pick(self, logits: Any) -> Any:
        """(N, V): of logits (B, L, V), tensor or array, those that count."""
        if self.is_scored.all():
            return logits.reshape(-1, logits.shape[-1])
        if not is_tensor(logits):
            return logits[self.is_scored]
        import torch

        return logits[torch.from_numpy(self.is_scored).to(logits.device)]


def batches(windows: Iterable[Window], size: int, room: int | None = None) -> Iterator[Batch]:
    """The windows, up to `size` at a time; what a batch holds depends on the windows alone.

    `room` is how many tokens a batch of several may have, the padding included.
    """
    run: list[Window] = []
    length = 0
    for window in windows:
        longest = max(length, len(window.inputs))
        is_over = room is not None and longest * (len(run) + 1) > room
        if run and (len(run) == size or is_over):
            yield pad(run)
            run, longest = [], len(window.inputs)
        run.append(window)
        length = longest
    if run:
        yield pad(run)


def pad(run: Sequence[Window]) -> Batch:
    """Windows side by side."""
    shape = len(run), max(len(window.inputs) for window in run)
    inputs, is_scored = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for row, window in enumerate(run):
        stop = len(window.inputs)
        inputs[row, :stop] = window.inputs
        is_scored[row, stop - len(window.new.tokens) : stop] = True
    return Batch(inputs, is_scored, [window.new for window in run])
