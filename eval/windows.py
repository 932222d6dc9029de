"""Windows: which tokens the model reads at once, and which of them it is scored on."""

from collections.abc import Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """Positions ``start..stop - 1`` are read; those from `first` on are scored."""

    start: int
    first: int
    stop: int


def windows(n_tokens: int, context: int, stride: int) -> Iterator[Window]:
    """Cover ``0..n_tokens - 1`` so that every position is scored exactly once, in order.

    Each window after the first scores at most `stride` new positions, each of them with at least
    ``context - stride`` tokens before it in the window.

    Raises
    ------
    ValueError
        If stride is not in 1..context.
    """
    if not 1 <= stride <= context:
        raise ValueError(
            f"stride must be in 1..{context} (the model's context), got {stride}; "
            "a longer one would skip tokens"
        )
    stop = min(context, n_tokens)
    yield Window(0, 0, stop)
    while stop < n_tokens:
        first, stop = stop, min(stop + stride, n_tokens)
        yield Window(stop - context, first, stop)
