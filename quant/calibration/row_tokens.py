"""Which token each row of an activation belongs to, while a model runs.

An activation (..., width) has a row for each position of the batch, in order, until the model
picks, repeats or reorders rows, as routers of a mixture of experts do. Such a function is called
again on the numbers of the rows, which then say where each row went. All other functions leave the
rows as they are.
"""

import weakref
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

MOVES = {
    "__getitem__", "index_select", "gather", "take_along_dim", "reshape", "view", "flatten",
    "unflatten", "permute", "transpose", "swapaxes", "swapdims", "movedim", "t", "T", "mT",
    "squeeze", "unsqueeze", "expand", "repeat", "repeat_interleave", "select", "narrow", "flip",
    "roll", "contiguous", "clone", "unbind", "chunk", "split", "cat", "stack", "masked_select",
}  # fmt: skip


class RowTokens:
    """Numbers of the tokens that rows of activations belong to.

    Parameters
    ----------
    n_tokens : int
        Positions of the batch.
    """

    def __init__(self, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self._known: dict[int, tuple[weakref.ref[Tensor], Tensor | None]] = {}

    def of(self, tensor: Tensor) -> Tensor | None:
        """(N,) int64: the token of each row of a tensor (..., width); None if unknown."""
        reference, tokens = self._known.get(id(tensor), (None, None))
        n = n_rows(tensor)
        if reference is not None and reference() is tensor:
            return tokens if tokens is not None and len(tokens) == n else None
        return torch.arange(n) if n == self.n_tokens else None

    def moved(self, tensor: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor | None:
        """(N,) int64: the token of each row after a function that moves entries; or None."""
        tokens = self.of(tensor)
        if tokens is None:
            return None
        wide = tokens.to(tensor.device).view(*tensor.shape[:-1], 1).expand(tensor.shape)
        try:
            return narrow(move(wide))
        except (RuntimeError, TypeError, IndexError):  # of a dtype or a shape that it refuses
            return None

    def on_call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Note the tokens of the rows that a torch function returned."""
        tensors = [value for value in flat(args) if is_activation(value)]
        if not tensors or not any(map(is_activation, flat((out,)))):
            return
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        if name in MOVES:
            self._note_move(func, args, kwargs, out)
        elif isinstance(out, Tensor):
            if name in ("bmm", "matmul") and self._note_columns(tensors, out):
                return
            source = next((x for x in tensors if x.shape[:-1] == out.shape[:-1]), None)
            if source is not None and id(source) in self._known:
                self._note(out, self.of(source))

    def _note_columns(self, tensors: list[Tensor], out: Tensor) -> bool:
        """Note the tokens of a product (B, n, m) if each matrix (B, k, m) belongs to one token.

        Returns whether they do.
        """
        for x in tensors:
            tokens = self.of(x) if id(x) in self._known else None
            if tokens is not None and x.ndim == out.ndim == 3 and len(x) == len(out):
                each = tokens.view(x.shape[:-1])
                if x.shape[1] and bool((each == each[:, :1]).all()):
                    self._note(out, each[:, :1].expand(out.shape[:-1]).flatten())
                    return True
        return False

    def _note_move(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Call a function that moves rows again, on the numbers of the rows."""
        try:
            moved = func(*map(self._numbers, args), **kwargs)
        except (LookupError, RuntimeError, TypeError, IndexError):
            moved = None
        outs = list(flat((out,)))
        moves = list(flat((moved,))) if moved is not None else [None] * len(outs)
        for tensor, numbered in zip(outs, moves, strict=False):
            if is_activation(tensor):
                self._note(tensor, None if numbered is None else narrow(numbered))

    def _numbers(self, value: Any) -> Any:
        """Numbers of the rows in the place of activations; LookupError if they are unknown."""
        if isinstance(value, list | tuple) and any(map(is_activation, value)):
            return type(value)(map(self._numbers, value))
        if not is_activation(value):
            return value
        tokens = self.of(value)
        if tokens is None:
            raise LookupError
        return tokens.to(value.device).view(*value.shape[:-1], 1).expand(value.shape)

    def _note(self, tensor: Tensor, tokens: Tensor | None) -> None:
        """Remember the tokens of the rows of a tensor; None says that they are unknown."""
        self._known[id(tensor)] = weakref.ref(tensor), tokens


def narrow(wide: Tensor) -> Tensor | None:
    """(N,) int64: the number of each row of (..., width); None if a row has several."""
    if wide.ndim == 0 or wide.shape[-1] == 0:
        return None
    first = wide[..., :1]
    return first.flatten().cpu() if bool((wide == first).all()) else None


def n_rows(tensor: Tensor) -> int:
    """Rows of a tensor (..., width)."""
    return prod(tensor.shape[:-1])


def is_activation(value: object) -> bool:
    """Whether the value is a floating-point tensor of rows."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2


def flat(values: Any) -> Any:
    """All items of nested lists and tuples."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from flat(value)
        else:
            yield value


def is_integer(tensor: Tensor) -> bool:
    """Whether the tensor is of integers; bools are none."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def count_tokens(batch: Any) -> int:
    """Positions of a batch: entries of its first tensor of integers, else rows of its first."""
    tensors = [value for value in flat((batch,)) if isinstance(value, Tensor) and value.ndim]
    for tensor in tensors:
        if is_integer(tensor):
            return tensor.numel()
    return n_rows(tensors[0]) if tensors else 0
