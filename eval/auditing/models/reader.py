"""Reader: somebody's model under audit, called within a budget, its logits checked."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from eval.models.base import Model
from eval.models.movement import as_tensor
from eval.models.wrap import describe, shape_of
from eval.types import Tokens
from ngrammix.auditing.scorer import Clock, StoppedError, described, one_process

MARGIN = 1.5  # times the expected time of a pass that must be left


class TimeUpError(Exception):
    """The budget does not suffice for the next pass."""


class NoDistributionError(Exception):
    """The logits at a position are no distribution: one is NaN or +inf, or all are -inf.

    Attributes
    ----------
    tokens : (T,) int64
        The window up to the position.
    value : float
        The largest logit, or NaN.
    """

    def __init__(self, tokens: Tokens, value: float) -> None:
        super().__init__(f"the largest logit is {value}")
        self.tokens, self.value = tokens, value


# Errors that end an audit; any other one of a model is of the batch that it was raised for.
STOPPERS = (TimeUpError, NoDistributionError, StoppedError)


class Reader:
    """From tokens (B, T) to logits (B, T, V), each answer checked.

    Parameters
    ----------
    model : Model
    clock : Clock
    batch : int
        Rows that the model takes for certain. If it raises for others, they are read in parts of
        so many.

    Attributes
    ----------
    most : int or None
        Rows of a pass, once the model has refused others.
    """

    def __init__(self, model: Model, clock: Clock, batch: int) -> None:
        self._model, self._clock, self._batch = model, clock, batch
        self._surroundings = autocasts()
        self.most = 1 if batch == 1 else None

    def __call__(self, tokens: Tokens) -> Any:
        """The logits as a tensor.

        Raises
        ------
        TimeUpError
            If the pass would take longer than the budget.
        NoDistributionError
            If a row of logits has no softmax.
        StoppedError
            If the answer is none of logits.
        Exception
            Whatever the model raises.
        """
        if self.most is None:
            try:
                return self._read(tokens)
            except STOPPERS:
                raise
            except Exception:  # of any kind: the model need not take each batch
                if len(tokens) == self._batch:
                    raise
            logits = self._in_parts(tokens, self._batch)
            self.most = self._batch
            return logits
        return self._in_parts(tokens, self.most)

    def _in_parts(self, tokens: Tokens, most: int) -> Any:
        """The logits of rows that are read `most` at a time; the last part is filled up."""
        import torch

        size = tokens.shape[1]
        parts = [np.resize(tokens[i : i + most], (most, size)) for i in range(0, len(tokens), most)]
        return torch.cat([self._read(part).clone() for part in parts])[: len(tokens)]

    def _read(self, tokens: Tokens) -> Any:
        if self._clock.calls and MARGIN * self._clock.cost(tokens.size) > self._clock.left():
            raise TimeUpError
        began = perf_counter()
        try:
            with one_process(), entered(self._surroundings):
                logits = self._model.logits(tokens.copy())
        except Exception:
            raise
        except BaseException as error:  # such as SystemExit
            raise StoppedError(f"the model raised {described(error)}") from error
        self._clock.add(tokens.size, perf_counter() - began)
        return self._checked(tokens, logits)

    def _checked(self, tokens: Tokens, logits: Any) -> Any:
        expected = (*tokens.shape, self._model.vocab_size)
        if shape_of(logits) != expected:
            raise StoppedError(
                f"logits must be (B, T, V) = {expected}, got {describe(logits)}; return the logits "
                "of every position and of the whole vocabulary"
            )
        rows = as_tensor(logits)
        if not rows.is_floating_point():
            raise StoppedError(
                f"logits must be floating point, got dtype {rows.dtype}; pass the model's output "
                "unquantized"
            )
        largest = rows.amax(dim=-1)
        if not bool(largest.isfinite().all()):
            row, position = (int(i) for i in (~largest.isfinite()).nonzero()[0])
            raise NoDistributionError(tokens[row, : position + 1], float(largest[row, position]))
        return rows


def autocasts() -> list[tuple[str, Any]]:
    """Kinds of devices and dtypes of the autocasts around this call: other threads lack them."""
    import torch

    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    return [(kind, torch.get_autocast_dtype(kind)) for kind in kinds]


@contextmanager
def entered(kinds: list[tuple[str, Any]]) -> Iterator[None]:
    """Enter these autocasts."""
    import torch

    with ExitStack() as stack:
        for kind, dtype in kinds:
            stack.enter_context(torch.autocast(kind, dtype))
        yield
