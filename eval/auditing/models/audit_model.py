"""audit_model: whether a language model is legal, by its logits for windows that differ."""

import os
from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from eval.auditing.models.run import ModelAudit
from eval.models.base import Model
from eval.models.behaviour import name_of
from eval.models.causality import (
    LONGEST,
    as_model,
    as_text,
    check_callable,
    is_whole,
    training_mode_of,
)
from eval.models.load_model import load_model
from eval.models.logits_memory import bytes_a_row, logits_memory
from eval.models.numerics import dtype_of
from eval.models.wrap import check_context
from ngrammix.auditing.black_box import check_budget
from ngrammix.auditing.environment import environment
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.scorer import GRACE, Clock, described, run_within
from ngrammix.checks import check_int

POSITIONS = 8192  # rows times tokens of a pass
MEMORY = 1 << 28  # bytes of the logits of a pass
SLACK = 0.25  # share of the budget by which a pass may overrun it before it counts as hung
MAX_BATCH = 4096
NOT_CHECKED = (
    "what the program around the model does with the logits: gates, caches, updates (C3); "
    "ngrammix.audit runs a whole scorer",
    "the bytes that the scores are divided by (audit_bytes, audit_log)",
    "the data that the model was trained on, and the size of the artifact",
)


def audit_model(
    model: Model | Callable[..., Any] | str | os.PathLike[str],
    tokens: ArrayLike | None = None,
    *,
    context: int | None = None,
    vocab_size: int | None = None,
    batch: int = 8,
    bos: int | None = None,
    documents_apart: bool = False,
    seed: int = 0,
    budget_seconds: float = 50.0,
) -> AuditReport:
    """The verdict on a model: whether each row of its logits follows from the tokens before alone.

    It begins with the probe that `score` runs. Then tokens are changed after every position of
    growing windows, at telling and random places of the longest ones, and on many short texts; each
    id is put in as the next token. Windows are compared with themselves in other batches, cut
    short, read again, and, for a model of transformers, read token by token with its cache.

    Parameters
    ----------
    model : Model, callable, torch module or path
        A model; what `wrap` takes; a module of Parameter Golf, whose ``forward(ids, targets)``
        returns a loss; what `load_model` takes by name. A module is read in eval mode; its mode is
        as before afterwards.
    tokens : (N,) int, optional
        Tokens such as the model will read. Default: streams with repeats, runs and rare tokens.
    context : int, optional
        Longest window; at most 4096 of its tokens are read. Default: that of the model; needed for
        a callable.
    vocab_size : int, optional
        Number of ids that are put in. Default: V, or the size of the tokenizer if that is smaller.
    batch : int
        Rows that the model takes at once. It may get more; with 1 it never does.
    bos : int, optional
        The token that begins a document. Default: that of the tokenizer or of the config, if any.
    documents_apart : bool
        The model says that it keeps the documents of a window apart: it is guilty (C4) if the
        logits from `bos` on depend on the tokens before it. Otherwise a remark says whether they
        do.
    seed : int
        Of the texts, and of what comes in their place.
    budget_seconds : float
        Wall time after which the search ends.

    Returns
    -------
    AuditReport
        ``guilty`` with the two smallest windows that show it: C1 if the logits depend on later
        tokens, other rows or the length; C4 if on chance, earlier calls or the cache; C2 if they
        are no distribution. ``unknown`` if the model raises, hangs, or is too slow.

    Raises
    ------
    ValueError
        If an argument is wrong. What the model does wrong is in the report.

    Examples
    --------
    >>> import torch
    >>> from eval import audit_model
    >>> def shifted(tokens):  # its logits are the next token itself
    ...     return torch.nn.functional.one_hot(tokens.roll(-1, 1), 50).float()
    >>> report = audit_model(shifted, context=16, budget_seconds=2)
    >>> report.verdict, report.findings[0].condition
    ('guilty', 'C1')
    """
    clock = Clock(check_budget(budget_seconds))
    batch = check_int(batch, "batch", 1, MAX_BATCH)
    seed = check_int(seed, "seed", 0, 2**63 - 1)
    if context is not None:
        context = check_context(context, "the audit")
    if isinstance(model, str | os.PathLike):
        model = load_model(model, context=context)
    if not is_whole(model):
        check_callable(model, context)
    with training_mode_of(model):
        try:
            known = run_within(clock.budget + GRACE, lambda: as_model(model, context))
        except (Exception, SystemExit) as error:  # of any kind, from the first call of a callable
            return unknown(model, f"the model raised {described(error)}", clock, seed)
        if known is None:
            return unknown(model, "the model did not return its first logits", clock, seed)
        audit = prepare(
            known, tokens, context, vocab_size, batch, bos, documents_apart, seed, clock
        )
        problems = run(audit)
    return AuditReport(
        audit.name,
        tuple(audit.findings),
        tuple(audit.checks()),
        problems,
        tuple(audit.remarks),
        NOT_CHECKED,
        conditions_of(audit),
        clock.calls,
        clock.tokens,
        clock.used(),
    )


def prepare(
    model: Model,
    tokens: ArrayLike | None,
    context: int | None,
    vocab_size: int | None,
    batch: int,
    bos: int | None,
    documents_apart: bool,
    seed: int,
    clock: Clock,
) -> ModelAudit:
    """The audit of a model, with windows that fit in memory; ValueError for a wrong argument."""
    v, name = model.vocab_size, known_name(model)
    if vocab_size is not None:
        v = check_int(vocab_size, "vocab_size", 1, model.vocab_size)
    elif (tokenizer := getattr(model, "tokenizer", None)) is not None:
        v = min(v, tokenizer.vocab_size)
    limit = check_context(getattr(model, "context", context), name)
    text = None if tokens is None else as_text(tokens, v, "leave them out")
    longest = min(limit if context is None else context, limit, LONGEST)
    bytes_each = bytes_a_row(model)
    bos = bos_of(model, v) if bos is None else check_int(bos, "bos", 0, v - 1)
    if documents_apart and bos is None:
        raise ValueError(
            "documents_apart needs the token that begins a document, got none; pass bos"
        )
    longest = max(1, min(longest, logits_memory(None, model) // bytes_each // 2))
    positions = max(2 * longest, min(POSITIONS, MEMORY // bytes_each))
    return ModelAudit(
        model=model, name=name, text=text, vocab_size=v, longest=longest, batch=batch,
        positions=positions, bos=bos, documents_apart=documents_apart, seed=seed, clock=clock,
    )  # fmt: skip


def bos_of(model: Model, vocab_size: int) -> int | None:
    """The token that begins a document, of the tokenizer or of the config; None if unknown."""
    config = getattr(getattr(model, "network", None), "config", None)
    for bos in (
        getattr(getattr(model, "tokenizer", None), "bos", None),
        getattr(config, "bos_token_id", None),
    ):
        if isinstance(bos, int) and 0 <= bos < vocab_size:
            return bos
    return None


def run(audit: ModelAudit) -> tuple[str, ...]:
    """Run the audit in a thread of its own; returns why there can be no verdict, if so."""
    clock = audit.clock
    if run_within(GRACE + (1 + SLACK) * clock.budget - clock.used(), audit.run) is None:
        return (
            f"the model did not return within the budget of {clock.budget:g} s, in pass "
            f"{clock.calls + 1}; raise budget_seconds",
        )
    return tuple(audit.problems)


def known_name(model: Any) -> str:
    """What a report calls a model."""
    return str(getattr(model, "name", None) or name_of(model))


def unknown(model: Any, problem: str, clock: Clock, seed: int) -> AuditReport:
    """The report of a model that gave no logits."""
    return AuditReport(
        known_name(model), problems=(problem,), not_checked=NOT_CHECKED, seconds=clock.used(),
        conditions={"seed": seed, "budget_seconds": clock.budget, **environment()},
    )  # fmt: skip


def conditions_of(audit: ModelAudit) -> dict[str, Any]:
    """What the audit ran on."""
    return {
        "tokens": 0 if audit.text is None else len(audit.text),
        "vocab_size": audit.vocab_size,
        "context": getattr(audit.model, "context", audit.longest),
        "longest_window": audit.longest,
        "batch": audit.batch,
        "seed": audit.seed,
        "budget_seconds": audit.clock.budget,
        "dtype": dtype_of(audit.model) or "of no weights",
        **environment(),
    }
