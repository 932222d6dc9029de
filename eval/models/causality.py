"""Causality: whether a model predicts each token from the tokens before it alone.

Tokens after a position are changed, and the logits up to it must stay. The windows that are
compared lie beside each other in one batch, so an honest model gives the same bits: also the
experts of a mixture work on the same tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eval.models.base import Model
from eval.models.behaviour import name_of
from eval.models.logits_memory import bytes_a_row, logits_memory
from eval.models.losses import with_logits
from eval.models.probe import Leak, Logits, Probe
from eval.models.tensors import is_module
from eval.models.wrap import check_context, wrap_named
from eval.types import Tokens
from ngrammix.checks import as_integers, check_ids

SHORT = 64  # tokens: the future begins once at each position of these windows
LONGEST = 4096  # tokens of a window
POSITIONS = 2112  # of a forward pass over short windows: 33 rows
POSITIONS_LONG = 4096  # of one over longer windows, which has at least two rows
TRIALS = 3  # on other tokens, until a leak has shown twice

TEXTS = {
    "future": (
        "a model must predict each token from the tokens before it, got {name}: its logits at "
        "position {position} of {length} moved by {nats:.3g} nats when the tokens from position "
        "{edge} on were changed; load a class for causal models, set is_decoder or is_causal in "
        "its config, clear use_bidirectional_attention, undo a shift in its factory"
    ),
    "rows": (
        "the logits of a window must not depend on the rest of its batch, got {name}: those at "
        "position {position} of {length} moved by {nats:.3g} nats when other rows stood beside "
        "it; pass --batch 1, take out what mixes rows, such as a batch norm or experts with a "
        "capacity"
    ),
    "length": (
        "the logits of a window must not depend on the padding after it, got {name}: those at "
        "position {position} moved by {nats:.3g} nats when {edge} tokens became {length}; pass "
        "--batch 1, count positions from the first token"
    ),
    "repeat": (
        "a model must give the same logits for the same tokens, got {name}: those at position "
        "{position} of {length} moved by {nats:.3g} nats when the same batch was read again; "
        "switch off dropout, noise, and what it keeps from call to call"
    ),
}
SWITCH = ", or pass --no-causality-check (causality_check=False)"


def describe_leak(found: Leak, name: str) -> str:
    """The error in one line, for the model of this name."""
    return TEXTS[found.kind].format(name=name, **vars(found)) + SWITCH


def find_leak(
    logits: Logits,
    text: Tokens,
    *,
    vocab_size: int,
    longest: int,
    batch: int = 8,
    positions: int = POSITIONS_LONG,
    max_rows: int | None = None,
) -> Leak | None:
    """What the logits of a model depend on beside the tokens before; None if nothing was found.

    Windows of up to 64 tokens are changed from each of their positions on, so a leak at any
    position and over any distance is found there. In windows of the longest length the future
    begins at a few places. Then the other rows of the batch are changed, and padding is appended.

    It cannot find a leak that acts in long windows only, and there at few positions; one that acts
    on tokens that neither the text nor the changes hold; and one that moves the logits by less than
    0.0003 of their standard deviation, than two units of the coarsest dtype, or than rounding where
    the same tokens do not always give the same bits.

    Parameters
    ----------
    logits : callable
        From tokens (B, T) int64 to logits (B, T, V), tensor or array.
    text : (N,) int64
        Tokens such as the model will read, N >= 1; repeated if they are too few.
    vocab_size : int
        Number of ids to choose other tokens from, at most V.
    longest : int, tokens
        Longest window; at most 4096 of its tokens are read.
    batch : int
        Rows of a batch that the model takes. 1: windows are read one by one, so that neither other
        rows nor padding are tested.
    positions : int
        Most rows times tokens of a forward pass, up to 2112 in short windows and 4096 in long ones.
        A pass over long windows has at least two rows.
    max_rows : int, optional
        Most positions whose logits fit in memory at once. It bounds `positions`, and windows have
        at most half as many tokens. Default: no limit.

    Raises
    ------
    Exception
        That of the model, if it can read no batch of `batch` windows of the longest length. Other
        shapes that it cannot read are left out.
    """
    if vocab_size < 2:
        return None  # no token can be changed
    longest = min(longest, LONGEST)
    if max_rows is not None:
        longest = max(1, min(longest, max_rows // 2))  # two rows at a time
        positions = min(positions, max_rows)
    for seed in range(TRIALS):
        probe = Probe(logits, np.roll(text, -seed * (len(text) // TRIALS)), vocab_size, seed)
        found = look(probe, longest, batch, positions)
        # What may be rounding noise must show twice; a model without a leak is probed once.
        if seed == 0 and found is None:
            return None
        if found is not None and (seed > 0 or probe.is_certain):
            return found
    return None


def look(probe: Probe, longest: int, batch: int, positions: int) -> Leak | None:
    """What short windows show, then long ones; shapes that the model does not take are left out."""
    short = short_length(longest, min(positions, POSITIONS))
    shown = attempt(lambda: probe.look_everywhere(short))
    if batch == 1:  # no rows stand beside a window, and none is padded
        if isinstance(shown, Leak) and shown.kind in ("future", "repeat"):
            return shown
        return probe.look_alone(longest)
    if isinstance(shown, Leak) or (shown is None and short == longest):
        return shown
    n_rows = max(2, min(POSITIONS_LONG, positions) // longest)
    is_first = isinstance(shown, Exception)
    found = attempt(lambda: probe.look_at_few(longest, n_rows, is_first=is_first))
    if isinstance(found, Exception):
        return probe.look_at_few(longest, batch, is_first=is_first)
    return found


def short_length(longest: int, positions: int) -> int:
    """Tokens of a window whose futures fit into two passes: `longest`, or a power of two."""
    lengths = [longest] if longest <= SHORT else []
    lengths += [2**k for k in range(SHORT.bit_length() - 1, 0, -1) if 2**k <= longest]
    return next((n for n in lengths if n * (n // 2 + 1) <= positions), 1)


def attempt(look: Callable[[], Leak | None]) -> Leak | Exception | None:
    """What a look shows, or the exception of a model that does not take these windows."""
    try:
        return look()
    except Exception as error:  # of any kind: a model need not take each length and batch
        return error


def check_causality(
    model: Model | Callable[..., Any],
    tokens: ArrayLike | None = None,
    *,
    context: int | None = None,
    vocab_size: int | None = None,
    batch: int = 8,
) -> None:
    """Nothing if the logits depend on the tokens before them alone; otherwise an error.

    See `find_leak` for what is tested, and what cannot be found.

    Parameters
    ----------
    model : Model or callable
        A model, or what `wrap` takes. The training mode of a module is as before afterwards.
    tokens : (N,) int, optional
        Tokens such as the model will read. Default: random ids.
    context : int, optional
        Longest window; shorter if the logits of two do not fit in memory, see `logits_memory`.
        Default: that of the model; needed for a callable.
    vocab_size : int, optional
        Number of ids. Default: V.
    batch : int
        Rows of a batch that the model takes.

    Raises
    ------
    ValueError
        With a position whose logits moved, and how far: if the logits depend on later tokens, on
        other rows of the batch, on padding, or on chance.

    Examples
    --------
    >>> import torch
    >>> def shifted(tokens):  # its logits are the next token itself
    ...     return torch.nn.functional.one_hot(tokens.roll(-1, 1), 50).float()
    >>> check_causality(shifted, context=16)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: a model must predict each token from the tokens before it, got shifted: its ...
    """
    with training_mode_of(model):
        known = as_model(model, context)
        v = known.vocab_size if vocab_size is None else vocab_size
        longest = known.context if context is None else check_context(context, known.name)
        if tokens is None:
            text = np.random.default_rng(0).integers(v, size=min(longest, LONGEST))
        else:
            text = as_text(tokens, v, "leave them out for random ones")
        max_rows = logits_memory(None, known) // bytes_a_row(known)
        check_model(known, text, vocab_size=v, longest=longest, batch=batch, max_rows=max_rows)


def as_text(tokens: ArrayLike, vocab_size: int, mend: str) -> Tokens:
    """Tokens (N,) int64 of any shape, N >= 1, in [0, V); ValueError otherwise.

    `mend`: what to do in place of an empty array, for the error.
    """
    text = as_integers(tokens, "tokens").ravel()
    if len(text) == 0:
        raise ValueError(f"tokens must hold at least one id, got none; {mend}")
    check_ids(text, vocab_size, "tokens")
    return text


def as_model(model: Any, context: int | None) -> Model:
    """A model as it is, and any other callable as one of this context."""
    if is_whole(model):
        return model  # type: ignore[no-any-return]
    context = check_callable(model, context)
    network = with_logits(model) if is_module(model) else model
    return wrap_named(network, context=context, tokenizer=None, name=name_of(model))


def is_whole(model: Any) -> bool:
    """Whether an object is a model by itself, and no callable that needs a context."""
    return hasattr(model, "logits") and hasattr(model, "vocab_size")


def check_callable(model: Any, context: int | None) -> int:
    """Return the context of a callable; ValueError unless both can be used."""
    if not callable(model):
        raise ValueError(
            f"a model must be callable, got {type(model).__name__}; pass a module, or a function "
            "from tokens to logits"
        )
    return check_context(context, name_of(model))


def check_model(model: Model, text: Tokens, **options: Any) -> None:
    """`find_leak` on the logits of a model; ValueError if it finds one."""
    found = find_leak(model.logits, text, **options)
    if found is not None:
        raise ValueError(describe_leak(found, model.name))


@contextmanager
def training_mode_of(model: Any) -> Iterator[None]:
    """Give all parts of a module their training mode back."""
    modes = [(part, part.training) for part in model.modules()] if is_module(model) else []
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
