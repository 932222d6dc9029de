"""Windows: which tokens the model reads at once, and which of them it is scored on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.scoring.tokenized import TokenizedPiece, concatenate, split

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Window:
    """What the model reads at once.

    Attributes
    ----------
    inputs : (L,) int64
        Read by the model; the logits of the last N positions are for the targets.
    new : TokenizedPiece
        The N targets, with all that is known of them.
    """

    inputs: Tokens
    new: TokenizedPiece


def check_stride(stride: int, context: int) -> int:
    """Return `stride`, or raise ValueError unless it is in 1..context."""
    if not 1 <= stride <= context:
        raise ValueError(
            f"stride must be in 1..{context} (the context), got {stride}; "
            "a longer one would skip tokens"
        )
    return stride


def windows(
    pieces: Iterable[TokenizedPiece], context: int, stride: int, bos: int
) -> Iterator[Window]:
    """Cover a stream so that every token is a target exactly once, in order.

    Each window after the first of a document has at most `stride` targets, each of them with at
    least ``context - stride`` tokens before it in the window; the first begins with `bos` and has
    up to `context`. Little more than a window and a piece is held at a time.

    Raises
    ------
    ValueError
        If stride is not in 1..context.
    """
    check_stride(stride, context)
    stream = _Stream(context, stride, bos)
    for piece in pieces:
        if piece.is_apart:
            yield from stream.take(at_end=True)
            stream = _Stream(context, stride, bos)
        stream.append(piece)
        yield from stream.take(at_end=False)
    yield from stream.take(at_end=True)


class _Stream:
    """Tokens that belong together, of which the first are scored already."""

    def __init__(self, context: int, stride: int, bos: int) -> None:
        self._context, self._stride = context, stride
        self._past = np.array([bos])  # all that the next window may see of what is scored
        self._coming: TokenizedPiece | None = None
        self._has_begun = False

    def append(self, piece: TokenizedPiece) -> None:
        """Let `piece` come after all others."""
        self._coming = piece if self._coming is None else concatenate(self._coming, piece)

    def take(self, *, at_end: bool) -> Iterator[Window]:
        """The windows that are full; `at_end` also the last one."""
        while self._coming is not None:
            n_left = len(self._coming.tokens)
            most = self._stride if self._has_begun else self._context
            if n_left < most and not (at_end and n_left):
                return
            new, self._coming = split(self._coming, most)
            seen = np.concatenate([self._past, new.tokens])[-self._context - 1 :]
            yield Window(seen[:-1], new)
            self._past, self._has_begun = seen, True
