"""Batches: windows that go through the model together, padded at the right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.windows import Window
from eval.types import Bools, Tokens
from ngrammix.logits import is_tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B padded windows, and their N targets in stream order.

    Attributes
    ----------
    inputs : (B, L) int64
        Model inputs. Shorter windows are padded at the right: a causal model does not see the
        padding from the positions before it.
    is_scored : (B, L) bool
        The positions whose logits predict targets; in row-major order they are in stream order.
    pieces : B TokenizedPiece
        The targets of each window, N in all.
    """

    inputs: Tokens
    is_scored: Bools
    pieces: Sequence[TokenizedPiece]

    @cached_property
    def targets(self) -> Tokens:
        """(N,) int64: the targets of all windows."""
        return np.concatenate([piece.tokens for piece in self.pieces])


def split_at_documents(batch: Batch) -> Iterator[tuple[Tokens, bool]]:
    """(tokens, whether their context is empty) of each run of targets that share context."""
    parts: list[Tokens] = []
    is_start = False
    for piece in batch.pieces:
        if piece.is_context_start and parts:
            yield np.concatenate(parts), is_start
            parts = []
        is_start = piece.is_context_start if not parts else is_start
        parts.append(piece.tokens)
    yield np.concatenate(parts), is_start


def scored_logits(logits: Any, is_scored: Bools) -> Any:
    """Logits (N, V) of the N scored positions; logits (B, L, V) tensor or array."""
    if is_scored.all():
        return logits.reshape(-1, logits.shape[-1])
    if not is_tensor(logits):
        return logits[is_scored]
    import torch

    return logits[torch.from_numpy(is_scored).to(logits.device)]


def batches(
    windows: Iterable[Window], batch_size: int, max_tokens: int | None = None
) -> Iterator[Batch]:
    """Batches of up to `batch_size` windows; their content depends on the windows alone.

    A batch of several windows has at most `max_tokens` tokens, the padding included.
    """
    group: list[Window] = []
    longest = 0
    for window in windows:
        length = len(window.inputs)
        n_padded = max(longest, length) * (len(group) + 1)
        is_over = max_tokens is not None and n_padded > max_tokens
        if group and (len(group) == batch_size or is_over):
            yield pad(group)
            group, longest = [], 0
        group.append(window)
        longest = max(longest, length)
    if group:
        yield pad(group)


def pad(group: Sequence[Window]) -> Batch:
    """One batch of the windows, padded with token 0 to the length of the longest."""
    shape = len(group), max(len(window.inputs) for window in group)
    inputs, is_scored = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for row, window in enumerate(group):
        stop = len(window.inputs)
        inputs[row, :stop] = window.inputs
        is_scored[row, stop - len(window.piece.tokens) : stop] = True
    return Batch(inputs, is_scored, [window.piece for window in group])
