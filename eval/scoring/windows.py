"""Windows: the tokens that the model reads at once, and which of them are scored."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from eval.config import ScoreConfig
from eval.models.base import Model
from eval.models.logits_memory import bytes_a_row, keeps_rows, logits_memory
from eval.scoring.tokenized import TokenizedPiece, concatenate, split
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.bos import BOS_NONE
from eval.tokenizers.side_car import SideCarTokenizer
from eval.types import Tokens

CACHE_WINDOW = 1 << 16  # tokens of a window without a model; the cache alone needs no context


@dataclass(frozen=True, eq=False)
class Window:
    """One sequence for the model.

    Attributes
    ----------
    inputs : (L,) int64
        The tokens that the model reads. Its logits at the last N positions predict the targets.
    piece : TokenizedPiece
        The N targets, with their bytes and document boundaries.
    """

    inputs: Tokens
    piece: TokenizedPiece


@dataclass(frozen=True)
class WindowShape:
    """Sizes of windows and batches.

    Attributes
    ----------
    context, stride : int, tokens
        Longest window, and targets of each window after the first of a document.
    bos : int or None
        The token before the first target of a document; None: its own first token, which is then
        no target.
    batch_size : int
        Most windows in a batch.
    max_rows : int, optional
        Most positions with logits, padding included, in a batch of several windows; None: no limit.
    keeps_rows : bool
        Whether only the scored positions have logits; a window with more of them than `max_rows` is
        then cut.
    logits_memory : int, optional
        Bytes of `max_rows` rows of logits; None if no batch comes near it.
    """

    context: int
    stride: int
    bos: int | None
    batch_size: int
    max_rows: int | None = None
    keeps_rows: bool = False
    logits_memory: int | None = None


def make_window_shape(
    config: ScoreConfig, model: Model | None, tokenizer: Tokenizer
) -> WindowShape:
    """Window sizes of a configuration, with the model's own context as the default.

    Raises
    ------
    ValueError
        If context or stride is too long for the model, the tokenizer has more tokens than the
        model, the tokenizer has no BOS token, or one row of logits exceeds the memory for them.
    """
    if model is None:
        bos = None if config.bos == BOS_NONE else tokenizer.bos or 0
        return WindowShape(CACHE_WINDOW, CACHE_WINDOW, bos, CACHE_WINDOW, CACHE_WINDOW)
    if tokenizer.vocab_size > model.vocab_size:
        raise ValueError(
            f"tokenizer must have at most the {model.vocab_size} tokens of {model.name}, got "
            f"{tokenizer.vocab_size} in {tokenizer.name}; is it another model's?"
        )
    context = model.context if config.context is None else config.context
    if context > model.context:
        raise ValueError(
            f"context must be at most the {model.context} tokens that {model.name} reads, got "
            f"{context}; leave it out for all of them"
        )
    stride = max(1, context // 2) if config.stride is None else config.stride
    if tokenizer.bos is None and config.bos != BOS_NONE:
        raise ValueError(no_bos(tokenizer))
    if tokenizer.bos is not None and tokenizer.bos >= model.vocab_size:
        raise ValueError(
            f"--bos must be below the {model.vocab_size} tokens of the model, got {tokenizer.bos}; "
            "pass the id of a token"
        )
    shape = WindowShape(context, check_stride(stride, context), tokenizer.bos, config.batch)
    memory, row = logits_memory(config.logits_memory, model), bytes_a_row(model)
    if row > memory:
        raise ValueError(
            f"logits_memory must be at least the {row} bytes of one row of {model.vocab_size} "
            f"logits, got {memory}; raise it"
        )
    if config.batch * context * row <= memory:
        return shape
    return replace(
        shape, max_rows=memory // row, keeps_rows=keeps_rows(model), logits_memory=memory
    )


def no_bos(tokenizer: Tokenizer) -> str:
    """Error text for a tokenizer without a BOS token."""
    what = "the model has no tokenizer, and so no BOS token"
    if not isinstance(tokenizer, SideCarTokenizer):
        what = f"the tokenizer {tokenizer.name} has no BOS token"
    return (
        "a document must begin with a token that is not scored, but "
        f"{what}; give its id with --bos, or pass --bos none: the first token of each document is "
        "then context only"
    )


def check_stride(stride: int, context: int) -> int:
    """Return `stride`, or raise ValueError unless it is in 1..context."""
    if not 1 <= stride <= context:
        raise ValueError(
            f"stride must be in 1..{context} (the context), got {stride}; "
            "a longer one would skip tokens"
        )
    return stride


def windows(
    pieces: Iterable[TokenizedPiece], context: int, stride: int, bos: int | None
) -> Iterator[Window]:
    """Windows in which every token of the stream is a target exactly once, in order.

    The first window of a document begins with `bos`, or with the `lead` of its piece, and has up
    to `context` targets. Each later window has at most `stride` targets, with at least
    ``context - stride`` tokens before them.
    Memory holds little more than one window and one piece.

    Raises
    ------
    ValueError
        If stride is not in 1..context.
    """
    check_stride(stride, context)
    first = 0 if bos is None else bos
    document = _Document(context, stride, first)
    for piece in pieces:
        if piece.is_context_start:
            yield from document.take_windows(at_end=True)
            document = _Document(context, stride, first if piece.lead is None else piece.lead)
        document.append(piece)
        yield from document.take_windows(at_end=False)
    yield from document.take_windows(at_end=True)


def cut(windows: Iterable[Window], max_targets: int) -> Iterator[Window]:
    """Windows of at most `max_targets` targets: a longer one is replaced by prefixes of itself.

    Each prefix ends with its own targets, so every target keeps the context that it had.
    """
    for window in windows:
        rest = window.piece
        while len(rest.tokens) > max_targets:
            piece, rest = split(rest, max_targets)
            yield Window(window.inputs[: len(window.inputs) - len(rest.tokens)], piece)
        yield Window(window.inputs, rest)


class _Document:
    """Tokens that share context: those already in a window, and those still to come."""

    def __init__(self, context: int, stride: int, bos: int) -> None:
        self._context, self._stride = context, stride
        self._past = np.array([bos])  # the end of what is scored, as far as a window can reach
        self._pending: TokenizedPiece | None = None
        self._has_begun = False

    def append(self, piece: TokenizedPiece) -> None:
        """Append the tokens of `piece`."""
        self._pending = piece if self._pending is None else concatenate(self._pending, piece)

    def take_windows(self, *, at_end: bool) -> Iterator[Window]:
        """Remove and yield the full windows; with `at_end` also the last, shorter one."""
        while self._pending is not None:
            n_left = len(self._pending.tokens)
            n_targets = self._stride if self._has_begun else self._context
            if n_left < n_targets and not (at_end and n_left):
                return
            piece, self._pending = split(self._pending, n_targets)
            tokens = np.concatenate([self._past, piece.tokens])[-self._context - 1 :]
            yield Window(tokens[:-1], piece)
            self._past, self._has_begun = tokens, True
