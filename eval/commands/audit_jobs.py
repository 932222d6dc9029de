"""What the process of an audit runs: it loads what is audited, audits it, and says so in a file."""

import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.audit_named import ROLES, Task, config_of, function_of, search
from eval.commands.audit_replay import replayed
from eval.commands.audit_stream import read_stream
from eval.commands.audit_watch import BEGUN, JOB, OUTCOME, outcome_of
from eval.commands.from_config import check_data, load_data, load_model_of, tokenizer_of
from eval.ending import describe_unexpected
from eval.notes import note
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.default_order import order_for
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.stepwise import row_of
from ngrammix.kernels.compiling import on_compile


def main(place: str) -> None:
    """Run the job of a folder, write its outcome there, and end the process, threads or not."""
    folder, process = Path(place), os.getpid()
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        with on_compile(lambda: note("compiling kernels (first run only)")):
            task = KINDS[job["kind"]](job)
            (folder / BEGUN).touch()
            outcome = task()
    except (ValueError, OSError, ImportError) as error:
        outcome = {"refused": str(error)}
    except BaseException as error:  # nobody foresaw it: one line, and the file of its traceback
        outcome = {"failed": describe_unexpected(error)}
    # A scorer that forks comes back in two processes: one of them speaks.
    if os.getpid() == process:
        part = folder / f"{OUTCOME}.part"
        part.write_text(json.dumps(outcome), encoding="utf-8")
        part.replace(folder / OUTCOME)
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    os._exit(0)


def tokenizer_of_job(job: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer that is named, if one is."""
    if "tokenizer" not in job:
        return None
    return tokenizer_of(config_of(job), None)


def scorer(job: Mapping[str, Any]) -> Task:
    """The audit of --scorer, or of --stepper."""
    from ngrammix.auditing.black_box import audit

    score_fn, probs_fn, stepper = (function_of(job, name) for name in ROLES)
    stream = read_stream(job, tokenizer_of_job(job), shown_size(probs_fn, stepper))
    conditions = stream.conditions | source_of(score_fn or stepper)

    def task() -> dict[str, Any]:
        report = audit(
            score_fn, stream.tokens, stream.vocab_size, probs_fn=probs_fn, stepper=stepper,
            edges=stream.edges, **search(job),
        )  # fmt: skip
        report = replace(report, conditions=conditions | report.conditions)
        return outcome_of(without_rest(report) if stream.is_guess else report)

    return task


def shown_size(probs_fn: Any, stepper: Any) -> int | None:
    """The number of probabilities that are shown before the first token; None if none are."""
    try:
        if probs_fn is not None:
            return len(row_of(probs_fn(np.zeros(0, np.int64))))
        return None if stepper is None else len(row_of(stepper().probs()))
    except Exception:  # of any kind: the audit says what the scorer raises
        return None


def without_rest(report: AuditReport) -> AuditReport:
    """The report without sums below 1, where the vocabulary may have more ids than are known."""
    kept = []
    problems = list(report.problems)
    for finding in report.findings:
        right, found = finding.witness.numbers
        if finding.witness.kind == "sum" and not finding.witness.tokens and found < right:
            problems.append(
                f"the probabilities of ids up to the highest of the file sum to {found:.6g}; pass "
                "--vocab-size, for there may be more ids"
            )
        else:
            kept.append(finding)
    return replace(report, findings=tuple(kept), problems=tuple(problems))


def source_of(function: Any) -> dict[str, str]:
    """The file of a function, and a hash of it; empty if there is none."""
    with suppress(TypeError, OSError):
        if path := inspect.getsourcefile(function):
            content = Path(path).read_bytes()
            return {"code": f"{Path(path).name} {hashlib.sha256(content).hexdigest()[:16]}"}
    return {}


def ourselves(job: Mapping[str, Any]) -> Task:
    """The audit of our own mixers."""
    from eval.auditing.audit_self import VOCAB_SIZE, audit_self

    stream = read_stream(job, tokenizer_of_job(job), VOCAB_SIZE)
    options = search(job) | {"order": order_for(config_of(job).order), "edges": stream.edges}

    def task() -> dict[str, Any]:
        report = audit_self(stream.tokens, stream.vocab_size, **options)
        return outcome_of(replace(report, conditions=stream.conditions | report.conditions))

    return task


def text_bytes(job: Mapping[str, Any]) -> Task:
    """The audit of --bytes."""
    from eval.auditing.token_bytes.audit_bytes import audit_bytes

    tokenizer = tokenizer_of_job(job)
    if tokenizer is None:
        raise ValueError("--bytes needs the tokenizer, got none; name it with --tokenizer")
    config = config_of(job)
    check_data(config)
    data = load_data(replace(config, token_bytes=None, token_bytes_per=None), tokenizer)
    return lambda: outcome_of(
        audit_bytes(
            tokenizer, data, config.token_bytes, token_bytes_per=config.token_bytes_per
        )
    )  # fmt: skip


def log_lines(job: Mapping[str, Any]) -> Task:
    """The audit of --log."""
    from eval.auditing.logs.audit_log import MAX_TEXT, audit_log

    text: str | Path = Path(job["log"])
    if job["log"] == "-":
        text = sys.stdin.buffer.read(4 * MAX_TEXT + 4).decode("utf-8", "replace")
    known = {name: job[f"n_{name}"] for name in ("tokens", "bytes") if f"n_{name}" in job}
    return lambda: outcome_of(audit_log(text=text, **known))


def model_rows(job: Mapping[str, Any]) -> Task:
    """The audit of --model."""
    from eval.auditing.models.audit_model import audit_model

    config = config_of(job)
    model = load_model_of(config)
    if model is None:
        raise ValueError("--model must name a model to audit, got none; name one")
    stream = read_stream(job, tokenizer_of(config, model), model.vocab_size)
    options = search(job, "seed", "budget") | {"context": config.context, "batch": config.batch}
    options |= {"vocab_size": job.get("vocab_size")}

    def task() -> dict[str, Any]:
        report = audit_model(model, stream.tokens, **options)
        return outcome_of(replace(report, conditions=stream.conditions | report.conditions))

    return task


def round_trip(job: Mapping[str, Any]) -> Task:
    """The audit of --codec."""
    from eval.commands.audit_coding import coded

    return coded(job)


def decode(job: Mapping[str, Any]) -> Task:
    """What --decode does."""
    from eval.commands.audit_coding import decoded

    return decoded(job)


KINDS: dict[str, Callable[[Mapping[str, Any]], Task]] = {
    "scorer": scorer, "model": model_rows, "self": ourselves, "log": log_lines,
    "bytes": text_bytes, "codec": round_trip, "decode": decode, "replay": replayed,
}  # fmt: skip
