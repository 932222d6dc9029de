"""Checks of a model beside its futures: what the length, the batch, and a cache of keys move."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from eval.auditing.models.reader import STOPPERS
from eval.models.movement import as_tensor, is_beyond, movement, recorded, spread
from eval.models.probe import ROUNDING, Leak, Logits, farthest
from eval.models.tensors import is_module
from eval.models.wrap import has_parameter
from eval.types import Floats, Tokens

OTHER_SHAPE = 4.0  # times the rounding of one pass: other shapes are computed by other kernels
FEW = 4  # windows; a position that moves in so many of them is no router at a tie
CACHES = ("past_key_values", "cache")  # the argument of transformers, before and since version 5


class Shapes:
    """Whether windows have the same logits in passes of other shapes.

    Parameters
    ----------
    logits : callable
    rows : (R, T) int64
        Windows of different texts.

    Attributes
    ----------
    passes : int
        Passes of other shapes that the model took.
    """

    def __init__(self, logits: Logits, rows: Tokens) -> None:
        self._logits, self.rows, self.passes = logits, rows, 0
        whole, eps = recorded(lambda: logits(rows))
        self.whole = self._part = whole.clone()
        rows_ = self.whole.flatten(0, 1)
        of_offset = eps * float(rows_.amax(dim=-1).abs().max())  # rounding of what all logits share
        self.bound = OTHER_SHAPE * (max(ROUNDING, eps**0.5) * spread(rows_) + of_offset)

    def repeated(self, times: int) -> Leak | None:
        """A leak of chance: windows that have other logits in one of so many more passes."""
        for _ in range(times):
            logits = as_tensor(self._logits(self.rows))
            self.passes += 1
            moved = self._moved(logits, range(len(self.rows)), self.rows.shape[1])
            if (i := self._which(moved)) is not None:
                return self._leak("repeat", moved[i], (self.rows[i],), 0)
        return None

    def changed(self, before: Any) -> Leak | None:
        """A leak of state: windows that had other logits in a pass before, of the same shape."""
        moved = np.stack([movement(a, b) for a, b in zip(self.whole, before, strict=True)])
        if (i := self._which(moved)) is None:
            return None
        return self._leak("repeat", moved[i], (self.rows[i],), 0)

    def shorter(self, lengths: Iterable[int]) -> Leak | None:
        """A leak of the length: positions that move when the windows end after N tokens."""
        for n in lengths:
            moved = self._moved_in(self.rows[:, :n], range(len(self.rows)))
            if moved is None or (i := self._which(moved)) is None:
                continue
            shown = (self.rows[i], self.rows[i, :n])
            return self._of_chance(self.rows[:, :n]) or self._leak("length", moved[i], shown, n)
        return None

    def fewer(self, sizes: Iterable[int]) -> Leak | None:
        """A leak of the batch: windows that move when fewer, or others, stand beside them."""
        for size in sizes:
            chosen = np.arange(len(self.rows))[::-1][:size]
            moved = self._moved_in(self.rows[chosen], chosen)
            if moved is None or (i := self._which(moved)) is None:
                continue
            shown = (self.rows[chosen[i]], self.rows[chosen[i] - 1])
            return self._of_chance(self.rows[chosen]) or self._leak("rows", moved[i], shown, 0)
        return None

    def cached(self, starts: Iterable[int], read: Callable[[Tokens, int], Any]) -> Leak | None:
        """A leak of the cache: positions that move when windows are read in pieces.

        `read` gives the logits of rows of which N tokens are read at once, then one by one.
        """
        for start in starts:
            part = as_tensor(read(self.rows, start))
            self.passes += 1
            moved = self._moved(part, range(len(self.rows)), self.rows.shape[1])
            if (i := self._which(moved)) is not None:
                return self._leak("cache", moved[i], (self.rows[i],), start)
        return None

    def _moved_in(self, rows: Tokens, chosen: Iterable[int]) -> Floats | None:
        """How far rows are from the same ones of the whole; None for a shape that is not taken."""
        try:
            part = self._logits(rows)
        except STOPPERS:
            raise
        except Exception:  # of any kind: a model need not take each shape
            return None
        self.passes += 1
        self._part = as_tensor(part).clone()
        return self._moved(self._part, chosen, rows.shape[1])

    def _of_chance(self, rows: Tokens) -> Leak | None:
        """A leak of chance or state: the last rows, or the whole, move when they are read again."""
        last = Shapes(self._logits, rows).changed(self._part)
        return last or Shapes(self._logits, self.rows).changed(self.whole)

    def _moved(self, part: Any, chosen: Iterable[int], n: int) -> Floats:
        """(R, n) nats: how far each row is from the same row of the whole."""
        whole = self.whole
        return np.stack([movement(part[i], whole[j, :n]) for i, j in enumerate(chosen)])

    def _which(self, moved: Floats) -> int | None:
        """The row that shows more than rounding; None if there is none."""
        everywhere = moved.min(axis=0) if len(moved) >= FEW else np.zeros(1)
        if is_beyond(moved, self.bound) or farthest(everywhere) > self.bound:
            return int(np.argmax(moved.max(axis=1)))
        return None

    def _leak(self, kind: str, moved: Floats, windows: tuple[Tokens, ...], edge: int) -> Leak:
        position = int(np.argmax(moved))
        nats = float(moved[position])
        return Leak(kind, position, self.rows.shape[1], edge, nats, windows)


def cache_reader(model: Any) -> Callable[[Tokens, int], Any] | None:
    """A function that reads N tokens of rows at once, then one by one, with a cache of keys.

    None if the model is no network of transformers that has one.
    """
    network: Any = getattr(model, "network", None)
    name = next((name for name in CACHES if has_parameter(network, name)), None)
    if not is_module(network) or name is None or not has_parameter(network, "use_cache"):
        return None

    def read(rows: Tokens, start: int) -> Any:
        import torch

        ids, options, parts = torch.from_numpy(rows).to(model.device), {"use_cache": True}, []
        with torch.no_grad(), model.call_context():
            for piece in (ids[:, :start], *ids[:, start:].unbind(1)):
                output: Any = network(piece.view(len(ids), -1), **options)
                options[name] = getattr(output, name)
                parts.append(output.logits)
        return torch.cat(parts, dim=1)

    return read
