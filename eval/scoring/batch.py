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


def scored_logits(logits: Any, is_scored: Bools) -> Iterator[Any]:
    """Logits of the scored positions in their order, as blocks (N, V); logits (B, L, V).

    Where every position is scored, the block is a view. Otherwise there is a copy: of all logits at
    once on a device, which is slow to ask many times, and of one window at a time on the host.
    """
    if is_scored.all():
        yield logits.reshape(-1, logits.shape[-1])
        return
    mask: Any = is_scored
    if is_tensor(logits):
        import torch

        mask = torch.from_numpy(is_scored).to(logits.device)
        if logits.device.type != "cpu":
            yield logits[mask]
            return
    for rows, is_row_scored in zip(logits, mask, strict=True):
        yield rows[is_row_scored]


def batches(
    windows: Iterable[Window],
    batch_size: int,
    max_rows: int | None = None,
    *,
    keeps_rows: bool = False,
) -> Iterator[Batch]:
    """Batches of up to `batch_size` windows; their content depends on the windows alone.

    A batch of several windows has logits at `max_rows` positions at most, the padding included:
    with `keeps_rows` from the first scored position of any window on, else at all of them.
    """
    group: list[Window] = []
    longest = first = 0  # of the group: length, and first position with logits
    for window in windows:
        length = len(window.inputs)
        start = length - len(window.piece.tokens) if keeps_rows else 0
        n_last = max(longest, length) - min(first, start)
        is_over = max_rows is not None and n_last * (len(group) + 1) > max_rows
        if group and (len(group) == batch_size or is_over):
            yield pad(group)
            group, longest = [], 0
        first = min(first, start) if group else start
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
