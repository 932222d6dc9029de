"""``ngrammix bench audit``: which planted leaks a short probe, ours and an audit find."""

import argparse
from time import perf_counter
from typing import Any

import numpy as np

from eval.auditing.models.audit_model import audit_model
from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.peers.planted_leaks import VOCAB, planted_leaks
from eval.bench.peers.short_probe import sees_the_future
from eval.bench.rounds import progress, race
from eval.models.causality import find_leak
from eval.models.wrap import WrappedModel, wrap

CONTEXT = 256  # tokens of the longest window


def measure(arguments: argparse.Namespace) -> Figures:
    """What each way finds of each leak, and the seconds of each on the honest model."""
    leaks = {
        name: wrap(network, context=CONTEXT, tokenizer=None, vocab_size=VOCAB, name=name)
        for name, network in planted_leaks().items()
    }
    rows = [
        measure_leak(name, model, arguments.budget)
        for name, model in progress(leaks.items(), "leaks")
    ]
    ways = ("peer", "probe", "audit")
    honest, *planted = rows
    times = race(
        {
            "peer": lambda: peer(leaks[honest["leak"]]),
            "probe": lambda: probe(leaks[honest["leak"]], short=True),
            "probe_long": lambda: probe(leaks[honest["leak"]]),
        },
        arguments.runs,
    )
    return {
        "rows": rows,
        "planted": len(planted),
        **{f"n_{way}": sum(row[way] is not None for row in planted) for way in ways},
        "accused": sum(honest[way] is not None for way in ways),
        "missed_of_peer": sum(row["peer"] is not None and row["probe"] is None for row in planted),
        **{f"seconds_{way}": times.median(way) for way in ("peer", "probe", "probe_long")},
        "seconds_audit": honest["seconds_audit"],
        "ratio_to_peer": times.ratio("probe", "peer"),
    }


def measure_leak(name: str, model: WrappedModel, budget: float) -> Figures:
    """What each way says of a model, None for nothing, and its seconds."""
    row: Figures = {"leak": name}
    ways: dict[str, Any] = {
        "peer": lambda: "future" if peer(model) else None,
        "probe": lambda: probe(model),
        "audit": lambda: audit(model, budget),
    }
    for way, ask in ways.items():
        began = perf_counter()
        row[way] = ask()
        row[f"seconds_{way}"] = perf_counter() - began
    return row


def peer(model: WrappedModel) -> bool:
    """Whether the short probe finds a leak."""
    return sees_the_future(model.logits, VOCAB)


def probe(model: WrappedModel, *, short: bool = False) -> str | None:
    """What the probe that `score` runs finds; in windows of 64 tokens alone if it is short."""
    text = np.random.default_rng(0).integers(VOCAB, size=CONTEXT)
    longest = 64 if short else CONTEXT
    found = find_leak(model.logits, text, vocab_size=VOCAB, longest=longest)
    return None if found is None else found.kind


def audit(model: WrappedModel, budget: float) -> str | None:
    """The condition that an audit finds broken."""
    report = audit_model(model, budget_seconds=budget)
    return report.findings[0].condition if report.findings else None


BENCH = Bench(
    options=OPTIONS["audit"],
    measure=measure,
    report=(
        "Of {planted} planted leaks the short probe, one token changed in one window of 64, finds "
        "{n_peer}; the probe that score runs {n_probe}; an audit {n_audit}. {accused} of the three "
        "accuse the honest model. The probe that score runs misses {missed_of_peer} of those that "
        "the short one finds",
        Table("rows", {
            "the model sees": "{leak}", "short probe": "{peer}", "probe of score": "{probe}",
            "audit": "{audit}", "s short": "{seconds_peer:.3f}",
            "s probe": "{seconds_probe:.3f}", "s audit": "{seconds_audit:.3f}",
        }),
        "On the honest model: the short probe takes {seconds_peer:.4f} s, ours {seconds_probe:.4f} "
        "s for windows of the same length ({ratio_to_peer:.2f} times as long), "
        "{seconds_probe_long:.4f} s with windows of the run too; an audit {seconds_audit:.2f} s",
    ),
)  # fmt: skip
