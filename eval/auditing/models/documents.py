"""Documents: whether a model that reads several in one window keeps them apart."""

import numpy as np

from eval.auditing.models.windows import Windows
from eval.models.movement import as_tensor, movement, recorded, spread
from eval.models.probe import ROUNDING, Leak, Logits
from eval.types import Floats

LENGTH = 64  # tokens of a window; a document begins in its middle
TEXTS = 8  # that stand before it


def look_across(
    logits: Logits, windows: Windows, longest: int, bos: int
) -> tuple[Leak | None, Floats]:
    """How the logits from token `bos` on move with the tokens before it.

    Returns
    -------
    leak : Leak or None
        The position that moved most, and the two windows; None if none moved by more than rounding.
    moved : (N,) float64, nats
        From the first position of the document to the end of the window; 0 for rounding.
    """
    length = min(longest, LENGTH)
    start = length // 2
    rows = np.tile(windows.draw(length), (TEXTS, 1))
    for row in rows[1:]:
        row[:start] = windows.draw(start)
    rows = np.where(rows == bos, (bos + 1) % windows.vocab_size, rows)  # one document begins
    rows[:, start] = bos
    answer, eps = recorded(lambda: logits(rows))
    answer = as_tensor(answer)
    bound = max(ROUNDING, eps**0.5) * spread(answer[0])
    each = np.stack([movement(row[start:], answer[0, start:]) for row in answer[1:]])
    moved = np.where(each > bound, each, 0.0)
    if not moved.any():
        return None, moved.max(axis=0)
    i, position = (int(k) for k in np.unravel_index(int(moved.argmax()), moved.shape))
    nats, pair = float(moved[i, position]), (rows[0], rows[i + 1])
    return Leak("document", start + position, length, start, nats, pair), moved.max(axis=0)


def describe(moved: Floats, bos: int) -> str:
    """What the movement after the beginning of a document says of a model, in one sentence."""
    n = int((moved > 0).sum())
    if n == 0:
        return f"documents are kept apart: no logits from token {bos} on moved with those before it"
    if moved[-1 - len(moved) // 4 :].any():
        return (
            f"documents are not kept apart: the logits from token {bos} on depend on the tokens "
            "before it"
        )
    return (
        f"the logits at {n} of the {len(moved)} positions from token {bos} on depend on the tokens "
        "before it, and the later ones do not: if documents shall be kept apart, what mixes "
        "neighbours must stop at their edge"
    )
